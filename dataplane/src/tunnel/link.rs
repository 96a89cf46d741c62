//! Making, changing and ending a tunnel device.

use super::{TunnelKind, TunnelSpec, encode};
use crate::error::Result;
use crate::link::LinkInfo;
use crate::netlink::{Netlink, RTM_NEWLINK, RTM_SETLINK};
use crate::pod_side::no_generated_address;
use crate::wire::batch::{Batch, F_CREATE, F_EXCL};

impl Netlink {
    /// Makes the device, down and without a generated IPv6 address. EEXIST: the name is taken, or another device has the same
    /// attributes (VNI and port; for IPIP both ends). Asking for IPIP loads the kernel's module, which then brings `tunl0`
    /// along by itself: an EEXIST for that name is its answer.
    pub fn create_tunnel(&mut self, spec: &TunnelSpec) -> Result<()> {
        let what = || {
            format!(
                "create {} link {}, mtu {}{}",
                spec.kind.as_str(),
                spec.name,
                spec.mtu,
                describe(&spec.kind)
            )
        };
        let mut batch = Batch::new();
        batch.push_with(RTM_NEWLINK, F_CREATE | F_EXCL, |out| {
            encode::create(out, spec)
        });
        self.request(&mut batch, what)?;
        if let Some(link) = self.find_link(&spec.name)? {
            let mut batch = Batch::new();
            batch.push(RTM_SETLINK, 0, &no_generated_address(link.index));
            let quiet = self.request(&mut batch, || {
                format!("turn off address generation of link {}", spec.name)
            });
            match quiet {
                // Without IPv6 there is nothing to turn off.
                Err(error) if [libc::EAFNOSUPPORT, libc::EINVAL].contains(&error.errno) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Sets what differs of MTU, MAC (VXLAN) and up. True where something did.
    pub fn ensure_tunnel_values(&mut self, link: &LinkInfo, spec: &TunnelSpec) -> Result<bool> {
        let mtu = (link.mtu != spec.mtu).then_some(spec.mtu);
        let mac = match spec.kind {
            TunnelKind::Vxlan { mac, .. } => Some(mac).filter(|mac| link.mac != Some(*mac)),
            TunnelKind::Ipip { .. } => None,
        };
        let up = (!link.up).then_some(true);
        if mtu.is_none() && mac.is_none() && up.is_none() {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.push_with(RTM_SETLINK, 0, |out| {
            encode::change(out, link.index, mtu, mac, up)
        });
        self.request(&mut batch, || {
            format!("set link {} up with mtu {}", spec.name, spec.mtu)
        })?;
        Ok(true)
    }

    /// Sets the link administratively down.
    pub fn set_link_down(&mut self, index: u32) -> Result<()> {
        let mut batch = Batch::new();
        batch.push_with(RTM_SETLINK, 0, |out| {
            encode::change(out, index, None, None, Some(false))
        });
        self.request(&mut batch, || format!("set link with index {index} down"))
    }
}

fn describe(kind: &TunnelKind) -> String {
    match kind {
        TunnelKind::Ipip { local: None } => String::new(),
        TunnelKind::Ipip { local: Some(local) } => format!(", local {local}"),
        TunnelKind::Vxlan {
            vni, port, local, ..
        } => format!(", VNI {vni}, port {port}, local {local}"),
    }
}
