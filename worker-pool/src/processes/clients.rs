//! The clients of all worker processes, counted in memory that they share.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use nix::unistd::{Pid, getpid};

use common::{Counters, LogRate};

use crate::shared;

/// A slot that no process has.
const FREE: i32 = 0;

/// The slots, one for each client that may be connected at a time, and the
/// counts since the start. A slot contains the id of the process whose client
/// it is. So the number of clients stays right even if a process is killed: its
/// parent frees the slot.
#[derive(Clone, Copy)]
pub struct Clients {
    slots: &'static [AtomicI32],
    totals: &'static Totals,
}

struct Totals {
    accepted: AtomicU64,
    rejected: AtomicU64,
    log_rate: LogRate,
}

/// A client's slot. Dropping it, also in a panic, frees it.
pub struct Slot(&'static AtomicI32);

impl Clients {
    /// Maps the memory for up to `most` clients. The processes that are forked
    /// from now on share it.
    pub fn new(most: usize) -> Result<Self> {
        // SAFETY: atomic integers; zero is valid for each.
        let slots = unsafe { shared::zeroed(most) }?;
        // SAFETY: as above.
        let totals = unsafe { shared::zeroed::<Totals>(1) }?;
        let totals = totals.first().context("no shared memory")?;
        // Rejections and errors of accept are counted in all processes too.
        common::share_rate(&totals.log_rate);
        Ok(Self { slots, totals })
    }

    /// Acquires a slot for a client of this process and returns the counters of
    /// this moment. Returns None if that would exceed the limit.
    ///
    /// One compare-and-exchange decides, so no process can be killed between
    /// two steps. Searching and counting is linear in the number of workers,
    /// each of which is a process.
    pub fn acquire(&self) -> Option<(Slot, Counters)> {
        let own = getpid().as_raw();
        let Some(slot) = self.slots.iter().find(|it| exchange(it, FREE, own))
        else {
            self.totals.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let accepted = &self.totals.accepted;
        let counters = Counters {
            clients: self.connected() as u64,
            accepted: accepted.fetch_add(1, Ordering::Relaxed) + 1,
            rejected: self.totals.rejected.load(Ordering::Relaxed),
            ..Counters::default()
        };
        Some((Slot(slot), counters))
    }

    /// Returns the number of clients.
    pub fn connected(&self) -> usize {
        let is_used = |it: &&AtomicI32| it.load(Ordering::SeqCst) != FREE;
        self.slots.iter().filter(is_used).count()
    }

    /// Frees the slot of a process that has died, if it had one.
    pub fn release(&self, process: Pid) {
        let _ =
            self.slots.iter().any(|it| exchange(it, process.as_raw(), FREE));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(FREE, Ordering::SeqCst);
    }
}

fn exchange(slot: &AtomicI32, old: i32, new: i32) -> bool {
    let order = Ordering::SeqCst;
    slot.compare_exchange(old, new, order, order).is_ok()
}
