//! Which address next: the one that has been free the longest (I13).
//!
//! Never-used addresses have been free forever: the ranges are walked once, in order, to the end. Then the released
//! ones, oldest first. No step looks at more than what is in the way (claims, waiting addresses), whatever the size of
//! the range: a /8 and a /48 cost what a /24 does. Only when neither gives anything is every claim looked at: those of
//! another boot are freed (I15), and addresses that a crash or a lost file has dropped are found again.

use crate::error::IpamError;
use crate::lines::Lines;
use crate::mark::{read_mark, write_mark};
use crate::number::{from_ip, to_ip};
use crate::queue::{LONG, Queue, Waiting};
use crate::range::{Range, RangeSet};
use crate::retain::sweep_other_boots;
use crate::store::Locked;
use node_state::StateError;
use std::collections::HashSet;
use std::net::IpAddr;

/// How many lost addresses are put back in line at once.
const FOUND_AT_ONCE: usize = 1024;

/// An address that is free, and how it is taken off the free list.
#[derive(Debug)]
pub(crate) struct Pick<'a> {
    pub(crate) address: IpAddr,
    pub(crate) range: &'a Range,
    pub(crate) from: From,
}

/// Where a pick comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// The walk of its range; the mark moves behind it.
    Walk,
    /// The queue; `first` when nothing waits before it.
    Queue { waiting: Waiting, first: bool },
    /// Nowhere: it was asked for before it was ever used, or was lost.
    Nowhere,
}

/// The address of `set` that has been free the longest. [`IpamError::Exhausted`] where there is none.
pub(crate) fn choose<'a>(
    lines: &mut Lines<'_>,
    set: &'a RangeSet,
    boot_id: &str,
) -> Result<Pick<'a>, IpamError> {
    if let Some(pick) = oldest(lines, set)? {
        return Ok(pick);
    }
    let swept = lines.locked.swept_boot()?.as_deref() == Some(boot_id);
    let freed = !swept && sweep_other_boots(lines, boot_id)?;
    let pick = if freed { oldest(lines, set)? } else { None };
    if let Some(pick) = pick {
        return Ok(pick);
    }
    find_lost(lines, set)?.ok_or_else(|| IpamError::Exhausted {
        ranges: set.describe(),
    })
}

fn oldest<'a>(lines: &mut Lines<'_>, set: &'a RangeSet) -> Result<Option<Pick<'a>>, StateError> {
    let locked = lines.locked;
    let queue = lines.of(set.is_ipv4())?;
    let early = if queue.len() > LONG {
        longest_waiting(locked, queue, set)?
    } else {
        None
    };
    if early.is_some() {
        return Ok(early);
    }
    for range in &set.ranges {
        if let Some(number) = walk(locked, queue, range)? {
            return Ok(Some(Pick {
                address: to_ip(number),
                range,
                from: From::Walk,
            }));
        }
    }
    longest_waiting(locked, queue, set)
}

/// The next never-used address of a range, past what is claimed, waiting, or the gateway.
fn walk(locked: &Locked<'_>, queue: &Queue<'_>, range: &Range) -> Result<Option<u128>, StateError> {
    let mut waiting: Option<HashSet<u128>> = None;
    let mut next = read_mark(locked, range)?;
    if next.is_none() {
        return Ok(None);
    }
    while let Some(number) = next.filter(|number| *number <= range.last_number()) {
        let address = to_ip(number);
        let waits = queue.may_hold(number) && {
            if waiting.is_none() {
                waiting = Some(queue.numbers()?);
            }
            waiting
                .as_ref()
                .is_some_and(|waiting| waiting.contains(&number))
        };
        if range.serves(address) && !waits && !locked.is_claimed(address)? {
            return Ok(Some(number));
        }
        next = number.checked_add(1);
    }
    // The rest is held or waiting: nobody needs to walk here again. Failing costs the next one a walk.
    let _ = write_mark(locked, range, None);
    Ok(None)
}

/// The first waiting address of a set. Records of claimed addresses are stale (see `queue.rs`) and count as gone.
fn longest_waiting<'a>(
    locked: &Locked<'_>,
    queue: &Queue<'_>,
    set: &'a RangeSet,
) -> Result<Option<Pick<'a>>, StateError> {
    let (mut pick, mut first) = (None, true);
    queue.each(|waiting| {
        let address = to_ip(waiting.number);
        match set.range_of(address) {
            Some(range) if !locked.is_claimed(address)? => {
                pick = Some(Pick {
                    address,
                    range,
                    from: From::Queue { waiting, first },
                });
                Ok(false)
            }
            Some(_) => Ok(true),
            // Another set's: it must stay in line.
            None => {
                first = false;
                Ok(true)
            }
        }
    })?;
    Ok(pick)
}

/// Addresses that are neither claimed nor waiting, though the walk is over. Looks at no more addresses than there are
/// claims, plus what it finds. The first is the pick, the others are put back in line.
fn find_lost<'a>(lines: &mut Lines<'_>, set: &'a RangeSet) -> Result<Option<Pick<'a>>, IpamError> {
    let claimed: HashSet<u128> = lines
        .locked
        .claimed()?
        .into_iter()
        .map(|(address, _)| from_ip(address))
        .collect();
    let mut lost = Vec::new();
    for range in &set.ranges {
        let mut next = Some(range.first_number());
        while let Some(number) =
            next.filter(|number| *number <= range.last_number() && lost.len() < FOUND_AT_ONCE)
        {
            if !claimed.contains(&number) && range.serves(to_ip(number)) {
                lost.push((number, range));
            }
            next = number.checked_add(1);
        }
    }
    let Some(((number, range), others)) = lost.split_first() else {
        return Ok(None);
    };
    for (number, _) in others {
        lines.push(to_ip(*number));
    }
    Ok(Some(Pick {
        address: to_ip(*number),
        range,
        from: From::Nowhere,
    }))
}
