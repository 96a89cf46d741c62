//! ADD: addresses, then the link, then host ports and shaping; all of it or nothing.
//!
//! The kernel's refusal to make a second link of the same name is what keeps two ADDs of one
//! attachment apart; everything before that is a record on tmpfs and a claim of the same key.

use crate::config::Config;
use crate::context::{key_of, now_ms, open_pod_netns, shaper_link};
use crate::delegate::Delegation;
use crate::error::Error;
use crate::host_ports;
use crate::ipam_driver::{Assigned, IpamDriver};
use crate::mac::{Mac, check_unicast, derive_mac, parse_mac};
use crate::plan::{DefaultRoutes, LinkPlan, PodLink, compute_plan};
use crate::record::{choose_dns, compute_alias, compute_record};
use crate::shaping::shaping_of;
use crate::undo::{Step, Undo};
use cni_spec::request::Attachment;
use cni_spec::result::CniResult;
use dataplane::link::VethSpec;
use dataplane::names::HOST_MAC;
use dataplane::netlink::Netlink;
use dataplane::netns::Netns;
use dataplane::pod_side::{HostSideSpec, PodSideSpec};
use dataplane::sysctl::{PROC_SYS, enable_route_localnet};
use node_state::record::{AttachmentKey, AttachmentRecord};
use std::path::Path;

/// RTM_GETROUTE's table for what `ip route` shows without arguments (linux/rtnetlink.h).
const RT_TABLE_MAIN: u32 = 254;

pub(crate) fn run(
    attachment: &Attachment,
    delegation: &Delegation<'_>,
) -> Result<CniResult, Error> {
    let conf = &attachment.conf;
    if let Some(error) = &conf.prev_result_error {
        return Err(error.clone().into());
    }
    if conf.prev_result.is_some() {
        return Err(Error::Config {
            key: "prevResult",
            value: "present".into(),
            reason:
                "slash32 makes the pod's interface, so it must be the first plugin of its list (A2)"
                    .into(),
        });
    }
    let config = Config::parse(conf)?;
    let key = key_of(&attachment.id);
    let netns_path = attachment.netns.as_deref().unwrap_or(Path::new(""));
    let netns = open_pod_netns(netns_path, delegation.netns_override)?;
    let mac = choose_mac(attachment, &key)?;
    config.state.ensure()?;
    let mut netlink = Netlink::open()?;
    refuse_second_add(&config, &key, &mut netlink)?;

    let ipam = IpamDriver::new(attachment, &config.state, &config.ipam_type, delegation);
    let assigned = ipam.add(attachment)?;
    let mut undo = Undo::new(&config.state, &key);
    if assigned.fresh {
        undo.register(Step::Addresses(&ipam));
    }
    let job = Job {
        attachment,
        config: &config,
        key: &key,
        netns: &netns,
        netns_path,
        mac,
        ipam: &ipam,
    };
    match job.attach(&assigned, &mut netlink, &mut undo) {
        Ok(result) => Ok(result),
        Err(cause) => Err(undo.roll_back(cause)),
    }
}

/// A1: a live attachment of this key is left exactly as it is. A record whose link is gone is
/// what a killed ADD left; this ADD takes it over.
fn refuse_second_add(
    config: &Config,
    key: &AttachmentKey,
    netlink: &mut Netlink,
) -> Result<(), Error> {
    match netlink.find_link(&key.host_link())? {
        None => Ok(()),
        Some(link) => Err(Error::AlreadyAttached {
            what: format!(
                "link {} on the host, for container {} interface {} (record: {})",
                link.name,
                key.container_id,
                key.ifname,
                config.state.root().display()
            ),
        }),
    }
}

/// The `mac` capability, else CNI_ARGS MAC=, else one derived from the attachment.
fn choose_mac(attachment: &Attachment, key: &AttachmentKey) -> Result<Mac, Error> {
    match (attachment.conf.runtime_config.mac, &attachment.args.mac) {
        (Some(mac), _) => check_unicast("runtimeConfig.mac", mac),
        (None, Some(text)) => parse_mac("CNI_ARGS MAC", text),
        (None, None) => Ok(derive_mac(key)),
    }
}

/// One ADD, once its input is known to be good.
pub(crate) struct Job<'a> {
    pub(crate) attachment: &'a Attachment,
    pub(crate) config: &'a Config,
    pub(crate) key: &'a AttachmentKey,
    pub(crate) netns: &'a Netns,
    pub(crate) netns_path: &'a Path,
    pub(crate) mac: Mac,
    pub(crate) ipam: &'a IpamDriver<'a>,
}

impl<'a> Job<'a> {
    fn attach(
        &self,
        assigned: &Assigned,
        netlink: &mut Netlink,
        undo: &mut Undo<'a>,
    ) -> Result<CniResult, Error> {
        let ports = host_ports::compute_host_ports(&self.attachment.conf, &assigned.addresses)?;
        let mut pod_netlink = Netlink::open_in(self.netns)?;
        let plan = compute_plan(
            assigned,
            self.config.mtu,
            find_default_routes(&mut pod_netlink)?,
        )?;
        let record = compute_record(self, assigned, node_state::boot_id()?, now_ms());

        if assigned.fresh {
            undo.register(Step::Record);
        }
        self.config.state.write_record(&record)?;
        let pair = self.make_link(&plan, netlink, undo)?;
        pod_netlink.configure_pod_side(&PodSideSpec {
            index: pair.pod_index,
            addresses: plan.addresses.clone(),
            gateway_mac: HOST_MAC,
            routes: plan.pod_routes(),
        })?;
        netlink.configure_host_side(&HostSideSpec {
            index: pair.host_index,
            addresses: plan.addresses.clone(),
            pod_mac: self.mac,
        })?;
        self.shape(netlink, pair.host_index, undo)?;
        if !ports.is_empty() {
            let record = AttachmentRecord {
                host_ports: ports,
                ..record
            };
            undo.register(Step::HostPorts(Box::new(record.clone())));
            enable_route_localnet(Path::new(PROC_SYS), &record.host_link)?;
            host_ports::add(&self.config.state, &record)?;
        }
        let pod = PodLink {
            name: &self.key.ifname,
            mac: self.mac,
            mtu: plan.mtu,
            sandbox: &self.netns_path.to_string_lossy(),
        };
        Ok(plan.result(
            &self.key.host_link(),
            &pod,
            choose_dns(&self.attachment.conf, assigned),
        ))
    }

    fn make_link(
        &self,
        plan: &LinkPlan,
        netlink: &mut Netlink,
        undo: &mut Undo<'a>,
    ) -> Result<dataplane::link::VethPair, Error> {
        let host_link = self.key.host_link();
        let alias = compute_alias(self.attachment, self.key);
        let spec = VethSpec {
            host_name: &host_link,
            host_mac: HOST_MAC,
            alias: Some(&alias),
            pod_name: &self.key.ifname,
            pod_mac: Some(self.mac),
            pod_netns: self.netns,
            mtu: plan.mtu,
        };
        match netlink.create_veth(&spec) {
            // A link that was there before is somebody else's. Where it is the host's, another ADD of this
            // attachment made it a moment ago: record and claim are that one's too, by the same key (A4).
            Err(error) if error.is_exists() => {
                if !matches!(netlink.find_link(&host_link), Ok(None)) {
                    undo.disarm();
                }
                Err(Error::AlreadyAttached {
                    what: error.to_string(),
                })
            }
            // It takes several messages, and an answer can get lost after the kernel made the link.
            outcome => {
                undo.register(Step::Link(host_link));
                Ok(outcome?)
            }
        }
    }

    fn shape(
        &self,
        netlink: &mut Netlink,
        host_index: u32,
        undo: &mut Undo<'a>,
    ) -> Result<(), Error> {
        let Some(shaping) = shaping_of(&self.attachment.conf) else {
            return Ok(());
        };
        undo.register(Step::Link(shaper_link(self.key)));
        netlink.apply_shaping(
            host_index,
            &shaper_link(self.key),
            self.config.mtu.unwrap_or(1500),
            &shaping,
        )?;
        Ok(())
    }
}

fn find_default_routes(pod_netlink: &mut Netlink) -> Result<DefaultRoutes, Error> {
    let routes = pod_netlink.list_routes(RT_TABLE_MAIN)?;
    let has = |v6: bool| {
        routes
            .iter()
            .any(|route| route.spec.key.dst.prefix() == 0 && route.spec.key.dst.is_ipv6() == v6)
    };
    Ok(DefaultRoutes {
        v4: has(false),
        v6: has(true),
    })
}
