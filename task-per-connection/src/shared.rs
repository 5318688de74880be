//! The state that all tasks share. No task waits for another to access it: the
//! counts are atomics, and the acceptor is notified when a client has left.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use common::{Config, Counters};

use crate::drain::Shutdown;

pub struct Shared {
    pub config: Config,
    /// Counts the conversations, and can wait until the last one has ended.
    pub clients: TaskTracker,
    /// Notified when a client has left and its descriptor is closed.
    pub departed: Notify,
    pub shutdown: Shutdown,
    pub accepted: Count,
    pub rejected: Count,
    pub requests: Count,
    pub empty_calls: Count,
    pub datagrams: Count,
    pub datagrams_dropped: Count,
}

/// A count that tasks on several workers add to at the same time.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more` and returns the new count. Relaxed, because the count orders
    /// no other memory accesses.
    pub fn add(&self, more: usize) -> u64 {
        let more = more as u64;
        self.0.fetch_add(more, Ordering::Relaxed) + more
    }

    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            clients: TaskTracker::new(),
            departed: Notify::new(),
            shutdown: Shutdown::new(),
            accepted: Count::default(),
            rejected: Count::default(),
            requests: Count::default(),
            empty_calls: Count::default(),
            datagrams: Count::default(),
            datagrams_dropped: Count::default(),
        }
    }

    /// Returns the counts of the whole process, for INFO.
    pub fn counters(&self) -> Counters {
        Counters {
            clients: self.clients.len() as u64,
            accepted: self.accepted.now(),
            rejected: self.rejected.now(),
            requests: self.requests.now(),
            empty_calls: self.empty_calls.now(),
            datagrams: self.datagrams.now(),
            datagrams_dropped: self.datagrams_dropped.now(),
        }
    }
}
