//! Both sides of a pod's link: addresses, routes and permanent neighbours, each side in one send.
//!
//! Inside, the pod has its address as a /32 or /128, a gateway that no interface has, and a permanent neighbour for it; on the
//! host, a route to the pod and a permanent neighbour. So there is no ARP, no NDP and no duplicate address detection: the
//! first packet leaves at once, and no address is ever tentative (A7). Who calls: the plugin's ADD.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::{KernelError, Refusal, Result};
use crate::link::{get_message, up_message};
use crate::neighbour::permanent_message;
use crate::netlink::{Netlink, RTM_GETLINK, RTM_NEWNEIGH, RTM_NEWROUTE, RTM_SETLINK};
use crate::route::{RouteKey, RouteSpec, encode};
use crate::sysctl::{PROC_SYS, ensure_sysctl};
use crate::wire::batch::{Batch, F_CREATE, F_EXCL, F_REPLACE};

mod message;
mod steps;
pub(crate) use message::no_generated_address;
use steps::{Step, compute_steps};

/// The pod's side as it is wanted.
#[derive(Debug, Clone)]
pub struct PodSideSpec {
    /// Of the pod's end, in the pod's namespace.
    pub index: u32,
    /// At most a few; each becomes a /32 or /128.
    pub addresses: Vec<IpAddr>,
    /// MAC of the host's side.
    pub gateway_mac: [u8; 6],
    /// All routes besides the one to the gateway. No default route is made unless it stands here.
    pub routes: Vec<PodRoute>,
}

/// A route inside the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRoute {
    /// Destination.
    pub dst: IpNetwork,
    /// `None`: through our gateway. Another gateway is reached through the host's side all the same.
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise, bytes.
    pub advmss: Option<u32>,
    /// Metric.
    pub priority: Option<u32>,
    /// `None`: main.
    pub table: Option<u32>,
    /// `None`: what the kernel demands. 253 (link) or more without a gateway: the destination is on the link.
    pub scope: Option<u8>,
}

/// The host's side as it is wanted.
#[derive(Debug, Clone)]
pub struct HostSideSpec {
    /// Of the host's side.
    pub index: u32,
    /// The pod's.
    pub addresses: Vec<IpAddr>,
    /// MAC of the pod's end.
    pub pod_mac: [u8; 6],
}

impl Netlink {
    /// Configures the pod's end, on a socket of the pod's namespace: up, addresses, gateway, routes, neighbours.
    ///
    /// A route that is there already stays: with several interfaces the first one's default route wins, as in the reference
    /// plugins. Where IPv6 is disabled in the namespace but an IPv6 address is asked for, it is enabled for this interface.
    pub fn configure_pod_side(&mut self, spec: &PodSideSpec) -> Result<()> {
        let steps = compute_steps(spec);
        let mut refused = self.run_steps(spec, &steps)?;
        if refused
            .iter()
            .any(|(step, refusal)| is_disabled_ipv6(step, refusal))
        {
            self.enable_ipv6(spec.index)?;
            let again: Vec<Step<'_>> = refused.into_iter().map(|(step, _)| step).collect();
            refused = self.run_steps(spec, &again)?;
        }
        match refused.into_iter().next() {
            Some((step, refusal)) => Err(refusal.during(format!("{step} in the pod"))),
            None => Ok(()),
        }
    }

    /// Configures the host's side, on a socket of the host: one route of our protocol per address, permanent neighbours.
    /// EEXIST: another route has the key; the text names it.
    ///
    /// To be called after [`Netlink::configure_pod_side`]: the host's side gets its carrier when the pod's end comes up, and
    /// drops what is sent to the pod until the kernel's link watch, a work queue, has noticed. Asking for the link makes it
    /// notice at once (`rtnl_getlink` since Linux 6.8); without, a first packet is lost now and then (A7).
    pub fn configure_host_side(&mut self, spec: &HostSideSpec) -> Result<()> {
        let routes: Vec<RouteSpec> = spec
            .addresses
            .iter()
            .map(|ip| host_route(*ip, spec.index))
            .collect();
        let mut batch = Batch::new();
        batch.push(RTM_GETLINK, 0, &get_message(spec.index, None));
        for (route, address) in routes.iter().zip(&spec.addresses) {
            batch.push(RTM_NEWROUTE, F_CREATE | F_EXCL, &encode::new_message(route));
            batch.push(
                RTM_NEWNEIGH,
                F_CREATE | F_REPLACE,
                &permanent_message(spec.index, *address, spec.pod_mac),
            );
        }
        let what = || {
            format!(
                "configure the host's side with index {} for {:?}",
                spec.index, spec.addresses
            )
        };
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, _| {})
            .map_err(|refusal| refusal.during(what()))?;
        let Some((position, refusal)) = refused.into_iter().next() else {
            return Ok(());
        };
        let Some(position) = position.checked_sub(1) else {
            return Err(refusal.during(what()));
        };
        let route = &routes[position / 2];
        if position % 2 == 1 {
            return Err(refusal.during(format!(
                "add permanent neighbour {} dev #{}",
                route.key.dst.ip(),
                spec.index
            )));
        }
        let error = refusal.during(format!("add route {route} to the pod"));
        Err(if error.is_exists() {
            self.name_the_route_in_the_way(error, &route.key)
        } else {
            error
        })
    }

    /// Brings the host's side up again after somebody set it down, which also took its neighbours; its routes, gone as well,
    /// are the caller's to make anew.
    pub fn raise_host_side(&mut self, spec: &HostSideSpec) -> Result<()> {
        let mut batch = Batch::new();
        batch.push(RTM_SETLINK, 0, &up_message(spec.index));
        for address in &spec.addresses {
            batch.push(
                RTM_NEWNEIGH,
                F_CREATE | F_REPLACE,
                &permanent_message(spec.index, *address, spec.pod_mac),
            );
        }
        self.request(&mut batch, || {
            format!("set the host's side with index {} up again", spec.index)
        })
    }

    /// Sends the steps; returns those that were refused and matter.
    fn run_steps<'a>(
        &mut self,
        spec: &PodSideSpec,
        steps: &[Step<'a>],
    ) -> Result<Vec<(Step<'a>, Refusal)>> {
        let mut batch = Batch::new();
        for step in steps {
            step.push(spec, &mut batch);
        }
        let what = || format!("configure the pod's link with index {}", spec.index);
        let refused = self
            .channel
            .exchange(&mut batch, &mut |_, _| {})
            .map_err(|refusal| refusal.during(what()))?;
        let v6 = spec.addresses.iter().any(IpAddr::is_ipv6);
        let refused = refused
            .into_iter()
            .map(|(position, refusal)| (steps[position], refusal));
        Ok(refused
            .filter(|(step, refusal)| step.matters(refusal, v6))
            .collect())
    }

    /// `disable_ipv6` of one interface in the namespace of this socket.
    fn enable_ipv6(&mut self, index: u32) -> Result<()> {
        let what = || format!("enable ipv6 for the pod's link with index {index}");
        let link = self
            .find_link_by_index(index)?
            .ok_or_else(|| KernelError::new(what(), libc::ENODEV))?;
        let key = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
        let write = || ensure_sysctl(std::path::Path::new(PROC_SYS), &key, "0");
        match &self.netns {
            Some(netns) => netns.run(write)?,
            None => write(),
        }
        .map(drop)
    }
}

/// EACCES for an IPv6 address: the interface's `disable_ipv6` is 1.
fn is_disabled_ipv6(step: &Step<'_>, refusal: &Refusal) -> bool {
    matches!(step, Step::Address(IpAddr::V6(_)) | Step::LinkLocal(_))
        && refusal.errno == libc::EACCES
}

/// The host's route to one address of a pod.
fn host_route(ip: IpAddr, index: u32) -> RouteSpec {
    RouteSpec::on_link(RouteKey::main(IpNetwork::from(ip)), index)
}
