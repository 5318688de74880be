//! Who is being served: what a thread knows is lost to the others, so the
//! streams are written down here, for a stop to reach and for limit to
//! count.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

/// The process has one.
pub static REGISTRY: Registry =
    Registry { clients: Mutex::new(BTreeMap::new()), departed: Condvar::new() };

/// The clients, by their stream's descriptor: as many as there are threads.
pub struct Registry {
    clients: Mutex<BTreeMap<RawFd, Client>>,
    departed: Condvar,
}

struct Client {
    stream: Arc<OwnedFd>,
    /// True once its conversation ends by itself: a stop leaves it alone.
    spared: bool,
}

/// A client's place in the registry: it leaves when this is dropped, also by
/// a panic.
pub struct Place(RawFd);

impl Place {
    /// Writes a stream down.
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
    /// The number of clients.
    pub fn clients(&self) -> usize {
        self.lock().len()
    }

    /// Has a stop leave a stream alone.
    pub fn exempt(&self, stream: BorrowedFd<'_>) {
        if let Some(client) = self.lock().get_mut(&stream.as_raw_fd()) {
            client.spared = true;
        }
    }

    /// Waits until a client leaves, and no longer than `most`.
    pub fn wait_for_room(&self, most: Duration) {
        let clients = self.lock();
        drop(self.departed.wait_timeout(clients, most));
    }

    /// Wakes every thread: what the kernel holds for it stays readable, then
    /// comes end of file. Waits until the last one has left.
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

    /// The map is whole whenever the lock is free, even after a panic.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RawFd, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
