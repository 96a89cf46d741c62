//! What the `bandwidth` capability asks for (X4).

use cni_spec::request::NetConf;
use dataplane::shaping::Shaping;

/// `None` where neither direction is limited.
pub(crate) fn shaping_of(conf: &NetConf) -> Option<Shaping> {
    let b = conf.runtime_config.bandwidth?;
    let shaping = Shaping {
        ingress_rate: b.ingress_rate,
        ingress_burst: b.ingress_burst,
        egress_rate: b.egress_rate,
        egress_burst: b.egress_burst,
    };
    (shaping.ingress_rate > 0 || shaping.egress_rate > 0).then_some(shaping)
}
