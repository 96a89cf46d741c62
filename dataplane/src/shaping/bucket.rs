//! A token bucket in the kernel's units. Pure.

use std::fmt;

/// How long a packet may wait: 25 ms, as the reference plugin has it. Microseconds.
const LATENCY_US: u64 = 25_000;
/// Ethernet header, which tbf counts along.
const HEADER: u64 = 14;

/// What tbf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Bytes per second, never 0.
    pub(super) rate: u64,
    /// Bytes.
    pub(super) burst: u32,
}

impl Bucket {
    /// From bits; `None`: unlimited. At least one packet of `mtu` fits.
    pub(super) fn new(rate_bits: u64, burst_bits: u64, mtu: u32) -> Option<Bucket> {
        if rate_bits == 0 {
            return None;
        }
        let packet = u64::from(mtu) + HEADER;
        let burst = (burst_bits / 8).max(packet);
        Some(Bucket {
            rate: (rate_bits / 8).max(1),
            burst: u32::try_from(burst).unwrap_or(u32::MAX),
        })
    }

    /// Bits per second and bits.
    pub(super) fn bits(&self) -> (u64, u64) {
        (self.rate.saturating_mul(8), u64::from(self.burst) * 8)
    }

    /// Bytes that the queue holds at most: the burst, and what passes within the latency.
    pub(super) fn limit(&self) -> u32 {
        u32::try_from(u64::from(self.burst).saturating_add(self.within_latency()))
            .unwrap_or(u32::MAX)
    }

    /// The bucket of a rate and a limit: the kernel tells a burst only as a time in ticks, rounded, but the limit exactly.
    pub(super) fn from_limit(rate: u64, limit: u32) -> Bucket {
        let bucket = Bucket { rate, burst: 0 };
        Bucket {
            burst: u32::try_from(u64::from(limit).saturating_sub(bucket.within_latency()))
                .unwrap_or(0),
            ..bucket
        }
    }

    fn within_latency(&self) -> u64 {
        self.rate.saturating_mul(LATENCY_US) / 1_000_000
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, burst) = self.bits();
        write!(f, "{rate} bit/s, burst {burst} bit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Bucket::new(0, 1_000_000, 1500), None);
    }

    #[test]
    fn a_burst_below_one_packet_is_raised_to_one() {
        assert_eq!(
            Bucket::new(8_000_000, 8, 1500),
            Some(Bucket {
                rate: 1_000_000,
                burst: 1514
            })
        );
    }

    #[test]
    fn the_bursts_that_runtimes_send_fit() {
        // containerd 2^32-1, cri-o 2^35-9 bits.
        assert_eq!(
            Bucket::new(1_000_000, u64::from(u32::MAX), 1500)
                .unwrap()
                .burst,
            536_870_911
        );
        assert_eq!(
            Bucket::new(1_000_000, (1 << 35) - 9, 1500).unwrap().burst,
            u32::MAX - 1
        );
    }

    proptest! {
        #[test]
        fn a_bucket_is_known_again_by_rate_and_limit(rate in 1..400_000_000_000_u64, burst in 0..u64::from(u32::MAX)) {
            let bucket = Bucket::new(rate, burst, 1500).unwrap();
            prop_assert_eq!(Bucket::from_limit(bucket.rate, bucket.limit()), bucket);
        }

        #[test]
        fn any_numbers_make_a_bucket_without_overflow(rate in 1_u64.., burst: u64, mtu: u32) {
            let bucket = Bucket::new(rate, burst, mtu).unwrap();
            let _ = (bucket.limit(), bucket.bits(), Bucket::from_limit(bucket.rate, bucket.limit()));
        }
    }
}
