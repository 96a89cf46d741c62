//! Many things at the same moment.

use anyhow::{Context, Result};

/// Runs `work` for each item on a thread of its own, all at once; the results in the items' order.
pub fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Result<Vec<R>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(|| work(item)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|end| end.ok().context("a thread ended by a panic"))
            .collect()
    })
}
