//! What ADD writes down of an attachment: the record, and the alias of the host's link. Pure.

use crate::add::Job;
use crate::ipam_driver::Assigned;
use crate::mac::format_mac;
use crate::plan::host_network;
use crate::shaping::shaping_of;
use cni_spec::request::{Attachment, CniArgs, NetConf};
use cni_spec::result::Dns;
use node_state::record::{AttachmentKey, AttachmentRecord, NetnsId, PodRef};

/// Without host ports: those are written under their lock.
pub(crate) fn compute_record(
    job: &Job<'_>,
    assigned: &Assigned,
    boot_id: String,
    now_ms: u64,
) -> AttachmentRecord {
    let (dev, ino) = job.netns.identity();
    AttachmentRecord {
        key: job.key.clone(),
        boot_id,
        netns: NetnsId {
            path: job.netns_path.into(),
            dev,
            ino,
        },
        host_link: job.key.host_link(),
        addresses: assigned
            .addresses
            .iter()
            .map(|a| host_network(*a))
            .collect(),
        host_ports: Vec::new(),
        shaped: shaping_of(&job.attachment.conf).is_some(),
        mtu: job.config.mtu,
        mac: Some(format_mac(job.mac)),
        pod: pod_of(&job.attachment.args),
        ipam_type: job.ipam.name().into(),
        ipam_data_dir: job.ipam.data_dir().map(Into::into),
        created_ms: now_ms,
    }
}

fn pod_of(args: &CniArgs) -> Option<PodRef> {
    let name = args.pod_name.clone()?;
    Some(PodRef {
        namespace: args.pod_namespace.clone().unwrap_or_default(),
        name,
        uid: args.pod_uid.clone().unwrap_or_default(),
    })
}

/// What `ip link` shows beside the host's side: whose it is. The kernel takes 255 bytes, and dataplane cuts to that.
pub(crate) fn compute_alias(attachment: &Attachment, key: &AttachmentKey) -> String {
    let pod = pod_of(&attachment.args).map_or_else(String::new, |pod| {
        format!(" pod {}/{}", pod.namespace, pod.name)
    });
    format!("{} {} {}{pod}", key.network, key.ifname, key.container_id)
}

/// A10: the configuration's dns overrides IPAM's where it is set.
pub(crate) fn choose_dns(conf: &NetConf, assigned: &Assigned) -> Dns {
    conf.runtime_config
        .dns
        .clone()
        .or_else(|| conf.dns.clone())
        .unwrap_or_else(|| assigned.dns.clone())
}
