//! When to look again: at once after an event, but never so often that the agent eats the node. Three bounds, each with
//! its reason: a share of time for passes, a budget of repairs against a program that undoes them, and a growing delay
//! after failures. Pure; `now` is a parameter.

use std::time::{Duration, Instant};

/// Passes may take a fifth of one core: after one that took d, the next waits 4 d...
const REST_PER_WORK: u32 = 4;
/// ... but not longer than this: a route that is lost meanwhile is to be back within 50 ms.
const LONGEST_REST: Duration = Duration::from_millis(15);
/// Repairs in a row that are done at once. A flapping link or a restarted network service needs a few dozen.
const REPAIR_BUDGET: u32 = 40;
/// One more repair is granted each second: that is the pace of a fight.
const REPAIR_REFILL: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The memory of the pace.
#[derive(Debug)]
pub(crate) struct Pace {
    repairs_left: u32,
    refilled: Instant,
    retry: Option<Duration>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace {
            repairs_left: REPAIR_BUDGET,
            refilled: now,
            retry: None,
        }
    }

    /// How long to rest after a pass that took `work` and had (or had not) to repair what another program did.
    pub(crate) fn rest(&mut self, now: Instant, work: Duration, repaired: bool) -> Duration {
        self.refill(now);
        let share = (work * REST_PER_WORK).min(LONGEST_REST);
        if !repaired {
            return share;
        }
        match self.repairs_left.checked_sub(1) {
            Some(left) => {
                self.repairs_left = left;
                share
            }
            None => {
                let rest = share.max(REPAIR_REFILL);
                // This rest pays for the repair that was just done on credit; it earns no further one.
                self.refilled = now + rest;
                rest
            }
        }
    }

    /// The delay until a failed pass is tried again, event or no event; doubled each time until one succeeds.
    pub(crate) fn retry_after(&mut self, failed: bool) -> Option<Duration> {
        self.retry = failed.then(|| {
            self.retry
                .map_or(FIRST_RETRY, |last| (last * 2).min(LAST_RETRY))
        });
        self.retry
    }

    fn refill(&mut self, now: Instant) {
        let periods =
            now.saturating_duration_since(self.refilled).as_secs() / REPAIR_REFILL.as_secs();
        let earned = u32::try_from(periods).unwrap_or(u32::MAX);
        if earned > 0 {
            self.refilled = now;
            self.repairs_left = self.repairs_left.saturating_add(earned).min(REPAIR_BUDGET);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_repair_is_followed_by_a_short_rest_only() {
        let now = Instant::now();
        let rest = Pace::new(now).rest(now, Duration::from_millis(2), true);
        assert_eq!(rest, Duration::from_millis(8));
    }

    #[test]
    fn a_fight_is_slowed_to_one_repair_a_second_and_peace_restores_the_budget() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let work = Duration::from_micros(100);
        let mut now = start;
        let mut repairs = 0;
        while now < start + Duration::from_secs(60) {
            now += pace.rest(now, work, true) + work;
            repairs += 1;
        }
        assert!(
            (90..=110).contains(&repairs),
            "{repairs} repairs in a minute"
        );
        now += Duration::from_secs(120);
        assert!(pace.rest(now, work, true) < Duration::from_millis(1));
    }

    #[test]
    fn looking_without_finding_takes_a_fifth_of_the_time_and_never_rests_for_long() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for (work, rest) in [(1, 4), (10, 15), (100, 15)] {
            for _ in 0..1000 {
                let found = pace.rest(now, Duration::from_millis(work), false);
                assert_eq!(found, Duration::from_millis(rest));
            }
        }
    }

    #[test]
    fn retries_grow_to_a_minute_and_start_anew_after_a_success() {
        let mut pace = Pace::new(Instant::now());
        let delays: Vec<u128> = (0..9)
            .map(|_| pace.retry_after(true).unwrap().as_millis())
            .collect();
        assert_eq!(
            delays,
            [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        assert_eq!(pace.retry_after(false), None);
        assert_eq!(pace.retry_after(true), Some(FIRST_RETRY));
    }
}
