//! The plan of the pod's link: pure, from addresses to what the kernel is asked for and to what
//! the runtime is told.

use crate::error::Error;
use crate::ipam_driver::Assigned;
use crate::mac::{Mac, format_mac};
use cni_spec::result::{CniResult, Dns, Interface, IpConfig, Route};
use dataplane::names::{GATEWAY_V4, GATEWAY_V6, HOST_MAC};
use dataplane::pod_side::PodRoute;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 8200 section 5: a link that carries IPv6 has an MTU of at least this.
const IPV6_MIN_MTU: u32 = 1280;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkPlan {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) routes: Vec<Route>,
    pub(crate) mtu: Option<u32>,
}

/// Families in which the namespace has a default route already: another interface of the pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DefaultRoutes {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

pub(crate) fn gateway_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
        IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
    }
}

/// A pod address as it stands on the link: /32 or /128.
pub(crate) fn host_network(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

fn default_destination(v6: bool) -> Option<IpNetwork> {
    let any = if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    IpNetwork::new(any, 0).ok()
}

/// Routes that IPAM names are taken as they are; without any, a default route for each family
/// in which the pod has none yet (2.8: a second interface must not fail because of the first's).
pub(crate) fn compute_plan(
    assigned: &Assigned,
    mtu: Option<u32>,
    present: DefaultRoutes,
) -> Result<LinkPlan, Error> {
    if let (Some(mtu), Some(address)) = (mtu, assigned.addresses.iter().find(|a| a.is_ipv6()))
        && mtu < IPV6_MIN_MTU
    {
        return Err(Error::Config {
            key: "mtu",
            value: mtu.to_string(),
            reason: format!(
                "the pod gets the IPv6 address {address}, and IPv6 needs at least {IPV6_MIN_MTU} bytes (RFC 8200)"
            ),
        });
    }
    let mut routes = Vec::new();
    for v6 in [false, true] {
        let Some(address) = assigned.addresses.iter().find(|a| a.is_ipv6() == v6) else {
            continue;
        };
        let gateway = Some(gateway_of(*address));
        let named: Vec<Route> = assigned
            .routes
            .iter()
            .filter(|r| r.dst.is_ipv6() == v6)
            .map(|r| Route {
                gw: gateway,
                ..r.clone()
            })
            .collect();
        let has_default = if v6 { present.v6 } else { present.v4 };
        match default_destination(v6) {
            Some(dst) if assigned.routes.is_empty() && !has_default => {
                routes.push(Route::new(dst, gateway));
            }
            _ => routes.extend(named),
        }
    }
    Ok(LinkPlan {
        addresses: assigned.addresses.clone(),
        routes,
        mtu,
    })
}

impl LinkPlan {
    pub(crate) fn pod_routes(&self) -> Vec<PodRoute> {
        self.routes
            .iter()
            .map(|r| PodRoute {
                dst: r.dst,
                gw: r.gw,
                mtu: r.mtu,
                advmss: r.advmss,
                priority: r.priority,
                table: r.table,
                scope: r.scope,
            })
            .collect()
    }

    /// The result (A6): host side first, then the pod's; each address points at the pod's.
    pub(crate) fn result(&self, host_link: &str, pod_link: &PodLink<'_>, dns: Dns) -> CniResult {
        let host = Interface {
            name: host_link.into(),
            mac: Some(format_mac(HOST_MAC)),
            mtu: pod_link.mtu,
            ..Interface::default()
        };
        let pod = Interface {
            name: pod_link.name.into(),
            mac: Some(format_mac(pod_link.mac)),
            mtu: pod_link.mtu,
            sandbox: Some(pod_link.sandbox.into()),
            ..Interface::default()
        };
        let ips = self
            .addresses
            .iter()
            .map(|a| IpConfig {
                address: host_network(*a),
                gateway: Some(gateway_of(*a)),
                interface: Some(1),
            })
            .collect();
        CniResult {
            interfaces: vec![host, pod],
            ips,
            routes: self.routes.clone(),
            dns,
        }
    }
}

/// The pod's end as the result names it; `sandbox` is CNI_NETNS byte for byte.
pub(crate) struct PodLink<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
    pub(crate) mtu: Option<u32>,
    pub(crate) sandbox: &'a str,
}

#[cfg(test)]
mod tests;
