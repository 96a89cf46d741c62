//! How long to wait before a failed request is tried again: doubled each time up to a limit, and half of it random, so
//! that thousands of agents do not come back to a restarted API server in the same moment. Pure but for `random`.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The delays of one row of failures.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// The delay after one more failure: between half of the current step and the whole of it.
    pub(super) fn after_failure(&mut self, random: f64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Something succeeded.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// From 0 to 1, different in each process and each call.
pub(super) fn random() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    bits as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second * 5);
        let delays: Vec<u64> = (0..5)
            .map(|_| backoff.after_failure(1.0).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.after_failure(1.0), second);
    }

    proptest::proptest! {
        #[test]
        fn a_delay_is_between_half_a_step_and_the_whole(randoms in proptest::collection::vec(0.0f64..=1.0, 1..20)) {
            let first = Duration::from_millis(500);
            let mut backoff = Backoff::new(first, Duration::from_secs(30));
            let mut step = first;
            for random in randoms {
                let delay = backoff.after_failure(random);
                proptest::prop_assert!(delay >= step / 2 && delay <= step);
                step = (step * 2).min(Duration::from_secs(30));
            }
        }
    }

    #[test]
    fn random_is_spread() {
        let values: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
        assert!(values.iter().any(|value| *value < 0.2) && values.iter().any(|value| *value > 0.8));
    }
}
