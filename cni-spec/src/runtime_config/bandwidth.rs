//! The bandwidth capability (X4).

use crate::json::{BadValue, number, object};
use serde_json::{Map, Value};

/// Limits of one pod; ingress is towards the pod. A rate is 0 exactly where its burst is: unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bits per second.
    pub ingress_rate: u64,
    /// Bits; below 2^35, since the kernel counts bytes in 32 bits.
    pub ingress_burst: u64,
    /// Bits per second.
    pub egress_rate: u64,
    /// Bits; below 2^35.
    pub egress_burst: u64,
}

pub(super) fn read(asked: &Map<String, Value>) -> Result<Option<Bandwidth>, BadValue> {
    let Some(limits) = object(asked, "bandwidth")? else {
        return Ok(None);
    };
    let read = || {
        let (ingress_rate, ingress_burst) = read_direction(limits, "ingressRate", "ingressBurst")?;
        let (egress_rate, egress_burst) = read_direction(limits, "egressRate", "egressBurst")?;
        Ok(Bandwidth {
            ingress_rate,
            ingress_burst,
            egress_rate,
            egress_burst,
        })
    };
    let bandwidth = read().map_err(|bad: BadValue| bad.within("bandwidth"))?;
    Ok((bandwidth != Bandwidth::default()).then_some(bandwidth))
}

fn read_direction(
    limits: &Map<String, Value>,
    rate_key: &str,
    burst_key: &str,
) -> Result<(u64, u64), BadValue> {
    let rate: u64 = number(limits, rate_key, "bits per second")?.unwrap_or(0);
    let burst: u64 = number(limits, burst_key, "bits")?.unwrap_or(0);
    if rate > 0 && burst == 0 {
        return Err(BadValue::new(
            burst_key,
            &burst.into(),
            format!("a burst in bits above 0, since {rate_key} is {rate}"),
        ));
    }
    if burst > 0 && rate == 0 {
        return Err(BadValue::new(
            rate_key,
            &rate.into(),
            format!("a rate in bits per second above 0, since {burst_key} is {burst}"),
        ));
    }
    // The reference's own limit; cri-o sends the largest value below it.
    if burst / 8 >= u64::from(u32::MAX) {
        return Err(BadValue::new(
            burst_key,
            &burst.into(),
            "a burst of less than 4 GiB, in bits",
        ));
    }
    Ok((rate, burst))
}
