//! All open connections, shared between the threads, so that a graceful
//! shutdown can reach them and the connection limit can count them.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

/// The only registry of the process.
pub static REGISTRY: Registry =
    Registry { clients: Mutex::new(BTreeMap::new()), departed: Condvar::new() };

/// The clients by their stream's descriptor, one per thread.
pub struct Registry {
    clients: Mutex<BTreeMap<RawFd, Client>>,
    departed: Condvar,
}

struct Client {
    stream: Arc<OwnedFd>,
    /// True once the conversation is closing the stream itself: the drain does
    /// not shut it down.
    spared: bool,
}

/// A client's entry in the registry. Dropping it, also in a panic, removes the
/// entry.
pub struct Place(RawFd);

impl Place {
    /// Adds a stream to the registry.
    pub fn take(stream: OwnedFd) -> (Self, Arc<OwnedFd>) {
        let stream = Arc::new(stream);
        let place = Self(stream.as_raw_fd());
        let client = Client { stream: Arc::clone(&stream), spared: false };
        REGISTRY.lock().insert(place.0, client);
        (place, stream)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        REGISTRY.lock().remove(&self.0);
        REGISTRY.departed.notify_one();
    }
}

impl Registry {
    /// Returns the number of clients.
    pub fn clients(&self) -> usize {
        self.lock().len()
    }

    /// Exempts a stream from being shut down by the drain.
    pub fn exempt(&self, stream: BorrowedFd<'_>) {
        if let Some(client) = self.lock().get_mut(&stream.as_raw_fd()) {
            client.spared = true;
        }
    }

    /// Waits until a client leaves, but at most for `most`.
    pub fn wait_for_room(&self, most: Duration) {
        let clients = self.lock();
        drop(self.departed.wait_timeout(clients, most));
    }

    /// Shuts down the receiving side of every stream, which wakes its thread:
    /// it can receive what has arrived, then end of file. Waits until the last
    /// client has left or the drain timeout ends.
    pub fn drain(&self, drain_timeout: Duration) {
        let timer = Instant::now() + drain_timeout;
        let mut clients = self.lock();
        for client in clients.values().filter(|client| !client.spared) {
            let _ = shutdown(client.stream.as_raw_fd(), Shutdown::Read);
        }
        while !clients.is_empty() {
            let left = timer.saturating_duration_since(Instant::now());
            if left.is_zero() {
                common::report_cut_off(clients.len());
                return;
            }
            let waited = self.departed.wait_timeout(clients, left);
            clients = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Locks the map, even after a panic, because no panic leaves it half
    /// changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RawFd, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
