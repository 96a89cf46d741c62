//! What the reconcile thread sleeps on. Wakes coalesce: twenty thousand netlink events while a pass runs are one bit
//! afterwards, since a pass reads whole state anyway. Filled by the threads of events, Nodes and signals.

use crate::problem::Problem;
use crate::view::ClusterView;
use dataplane::events::Event;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What has happened since the last look.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// A route changed.
    pub(crate) routes: bool,
    /// A link or an address changed.
    pub(crate) links: bool,
    /// A neighbour or forwarding entry of the tunnel changed.
    pub(crate) entries: bool,
    /// Our nftables table changed.
    pub(crate) table: bool,
    /// A table of others changed in which rules of ours may be.
    pub(crate) shared_table: bool,
    /// What happened before is unknown: the first look, or events were lost.
    pub(crate) unknown: bool,
    /// How often events were lost.
    pub(crate) overruns: u64,
    /// The newest answer of the source of Nodes.
    pub(crate) view: Option<Result<Arc<ClusterView>, Problem>>,
    /// When the source learnt of the first change that `view` holds and no pass has seen.
    pub(crate) view_since: Option<Instant>,
    /// The process ends.
    pub(crate) stop: bool,
}

impl Wakes {
    /// True where there is something to do.
    pub(crate) fn any(&self) -> bool {
        self.routes
            || self.links
            || self.entries
            || self.table
            || self.shared_table
            || self.unknown
            || self.view.is_some()
            || self.stop
    }
}

/// Shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    state: Mutex<State>,
    changed: Condvar,
    /// Index of the tunnel's link; 0 while there is none.
    tunnel: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    wakes: Wakes,
    /// Stays set, unlike the bit in `wakes`.
    stopped: bool,
}

impl Waker {
    /// For the events thread; false when it should end.
    pub(crate) fn set_event(&self, event: Event) -> bool {
        if let Event::Neighbour(link) = event
            && link != self.tunnel.load(Ordering::Relaxed)
        {
            return !self.is_stopped();
        }
        self.change(|wakes| match event {
            Event::Route => wakes.routes = true,
            Event::Link | Event::Address => wakes.links = true,
            Event::Neighbour(_) => wakes.entries = true,
            Event::NftTable => wakes.table = true,
            Event::SharedTable => wakes.shared_table = true,
            Event::Subscribed => wakes.unknown = true,
            Event::Overrun => {
                wakes.unknown = true;
                wakes.overruns += 1;
            }
        })
    }

    /// For the source of Nodes; a newer view replaces one that nobody has looked at yet. False when it should end.
    pub(crate) fn set_view(&self, view: Result<ClusterView, Problem>) -> bool {
        self.set_view_of(view, Instant::now())
    }

    /// The same for a source that knows since when its news are news.
    pub(crate) fn set_view_of(&self, view: Result<ClusterView, Problem>, since: Instant) -> bool {
        self.change(|wakes| {
            wakes.view = Some(view.map(Arc::new));
            wakes.view_since.get_or_insert(since);
        })
    }

    /// From now on neighbours of this link count; those of all others never do.
    pub(crate) fn watch_tunnel(&self, link: Option<u32>) {
        self.tunnel.store(link.unwrap_or(0), Ordering::Relaxed);
    }

    /// Ends the reconcile thread after its current pass.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.change(|wakes| wakes.stop = true);
    }

    /// True after `stop`.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Waits at most until `deadline` and takes what there is; all false at the deadline.
    pub(crate) fn wait_until(&self, deadline: Instant) -> Wakes {
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.wakes.any() || left == Duration::ZERO {
                return std::mem::take(&mut state.wakes);
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps for `gap`; only `stop` cuts it short. Whatever arrives meanwhile stays for `wait_until`.
    pub(crate) fn pause(&self, gap: Duration) {
        let until = Instant::now() + gap;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stopped || left == Duration::ZERO {
                return;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn change(&self, set: impl FnOnce(&mut Wakes)) -> bool {
        let mut state = self.lock();
        let asleep = !state.wakes.any();
        set(&mut state.wakes);
        // A flood of events must not be a flood of wakeups too.
        if asleep || state.stopped {
            self.changed.notify_all();
        }
        !state.stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_is_one_wake() {
        let waker = Waker::default();
        for _ in 0..20_000 {
            assert!(waker.set_event(Event::Route));
        }
        let wakes = waker.wait_until(Instant::now());
        assert!(wakes.routes && !wakes.links && wakes.view.is_none());
        assert!(!waker.wait_until(Instant::now()).any());
    }

    #[test]
    fn neighbours_count_on_the_tunnels_link_only() {
        let waker = Waker::default();
        assert!(waker.set_event(Event::Neighbour(7)));
        assert!(!waker.wait_until(Instant::now()).any());
        waker.watch_tunnel(Some(7));
        assert!(waker.set_event(Event::Neighbour(6)));
        assert!(!waker.wait_until(Instant::now()).any());
        assert!(waker.set_event(Event::Neighbour(7)));
        assert!(waker.wait_until(Instant::now()).entries);
    }

    #[test]
    fn stop_ends_waiters_and_pauses_at_once() {
        let waker = Waker::default();
        waker.stop();
        let start = Instant::now();
        assert!(waker.wait_until(start + Duration::from_secs(60)).stop);
        waker.pause(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(!waker.set_event(Event::Link));
    }
}
