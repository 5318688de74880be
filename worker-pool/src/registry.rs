//! The threads and the clients that they serve, so that a graceful shutdown can
//! reach them and the connection limit can count them.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use common::{ConnectionLimit, Counters};

/// The only registry of the process.
pub static REGISTRY: Registry = Registry {
    pool: Mutex::new(Pool {
        workers: 0,
        clients: BTreeMap::new(),
        draining: false,
        accepted: 0,
        rejected: 0,
    }),
    departed: Condvar::new(),
};

pub struct Registry {
    pool: Mutex<Pool>,
    departed: Condvar,
}

struct Pool {
    /// The number of workers that have not ended.
    workers: usize,
    /// The clients by their stream's descriptor: one per busy worker, and in
    /// `queue` those that wait for a worker.
    clients: BTreeMap<RawFd, Client>,
    /// True once the streams have been shut down.
    draining: bool,
    accepted: u64,
    rejected: u64,
}

struct Client {
    stream: Arc<OwnedFd>,
    /// True once the conversation is closing the stream itself: the drain does
    /// not shut it down.
    spared: bool,
}

/// A worker's entry in the registry, until it is dropped.
pub struct Worker(());

impl Worker {
    /// Counts one more worker.
    pub fn add() -> Self {
        REGISTRY.lock().workers += 1;
        Self(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        REGISTRY.lock().workers -= 1;
        REGISTRY.departed.notify_one();
    }
}

/// A client's entry in the registry. Dropping it, also in a panic, removes the
/// entry.
pub struct Place(RawFd);

impl Place {
    /// Adds a stream to the registry and returns the counters of this moment,
    /// or returns the stream if that would exceed the limit. If the drain has
    /// begun meanwhile, this stream is shut down as all others were.
    pub fn take(
        stream: OwnedFd,
        limit: ConnectionLimit,
    ) -> Result<(Arc<OwnedFd>, Self, Counters), OwnedFd> {
        let mut pool = REGISTRY.lock();
        if !limit.allows(pool.clients.len()) {
            pool.rejected += 1;
            return Err(stream);
        }
        let stream = Arc::new(stream);
        let place = Self(stream.as_raw_fd());
        let client = Client { stream: Arc::clone(&stream), spared: false };
        if pool.draining {
            client.shut_down();
        }
        pool.clients.insert(place.0, client);
        pool.accepted += 1;
        let counters = Counters {
            clients: pool.clients.len() as u64,
            accepted: pool.accepted,
            rejected: pool.rejected,
            ..Counters::default()
        };
        Ok((stream, place, counters))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        REGISTRY.lock().clients.remove(&self.0);
    }
}

impl Client {
    /// Shuts down the stream's receiving side, which wakes its worker: it can
    /// receive what has arrived, then end of file.
    fn shut_down(&self) {
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Read);
    }
}

impl Registry {
    /// Exempts a stream from being shut down by the drain. Returns false if
    /// that has happened already.
    pub fn exempt(&self, stream: BorrowedFd<'_>) -> bool {
        let mut pool = self.lock();
        if let Some(client) = pool.clients.get_mut(&stream.as_raw_fd()) {
            client.spared = true;
        }
        !pool.draining
    }

    /// Shuts down every stream. Waits until the last worker has ended or the
    /// drain timeout ends.
    pub fn drain(&self, drain_timeout: Duration) {
        let timer = Instant::now() + drain_timeout;
        let mut pool = self.lock();
        pool.draining = true;
        pool.clients
            .values()
            .filter(|client| !client.spared)
            .for_each(Client::shut_down);
        while pool.workers > 0 {
            let left = timer.saturating_duration_since(Instant::now());
            if left.is_zero() {
                common::report_cut_off(pool.clients.len());
                return;
            }
            let waited = self.departed.wait_timeout(pool, left);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Locks the pool, even after a panic, because no panic leaves it half
    /// changed.
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
