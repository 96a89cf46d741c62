//! When a changed store becomes a view: at once where it is quiet, and never so often that building views takes more
//! than a fifth of one core. Pure; `now` is a parameter.

use std::time::Duration;
use tokio::time::Instant;

/// As for passes (pace.rs): after a view that took d to build, the next waits 4 d...
const REST_PER_WORK: u32 = 4;
/// ... but not longer than this.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// Changes that no view holds yet.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    dirty_since: Option<Instant>,
    not_before: Option<Instant>,
}

impl Pacing {
    /// The store has changed.
    pub(super) fn note(&mut self, now: Instant) {
        self.dirty_since.get_or_insert(now);
    }

    /// When the next view is due, where one is wanted.
    pub(super) fn due(&self) -> Option<Instant> {
        self.dirty_since
            .map(|since| self.not_before.map_or(since, |least| least.max(since)))
    }

    /// Since when there are changes, where a view is to be built now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        self.due().filter(|due| now >= *due)?;
        self.dirty_since.take()
    }

    /// It was built.
    pub(super) fn published(&mut self, began: Instant, ended: Instant) {
        let rest = ((ended - began) * REST_PER_WORK).min(LONGEST_REST);
        self.not_before = Some(ended + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_change_is_published_at_once() {
        let now = Instant::now();
        let mut pacing = Pacing::default();
        assert_eq!(pacing.due(), None);
        pacing.note(now);
        assert_eq!(pacing.take(now), Some(now));
        assert_eq!(pacing.take(now), None);
    }

    #[test]
    fn a_flood_is_gathered_and_never_waits_for_longer_than_the_longest_rest() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        let (mut now, mut views, work) = (start, 0, Duration::from_millis(10));
        while now < start + Duration::from_secs(10) {
            pacing.note(now);
            if let Some(since) = pacing.take(now) {
                assert!(now - since <= LONGEST_REST + Duration::from_millis(1));
                views += 1;
                pacing.published(now, now + work);
                now += work;
            }
            now += Duration::from_millis(1);
        }
        // 10 ms of work and 40 of rest.
        assert!((190..=201).contains(&views), "{views} views in 10 s");
    }
}
