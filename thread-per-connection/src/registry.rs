//! Who is being served: what a thread knows is lost to the others, so the
//! streams are written down here, for a stop to reach and for admission to
//! count.

use std::collections::HashMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

/// The streams of all clients: as many as there are threads.
#[derive(Default)]
pub struct Registry {
    streams: Mutex<HashMap<u64, Arc<OwnedFd>>>,
    left: Condvar,
}

impl Registry {
    /// Notes a client; says how many there are with it.
    pub fn enter(&self, id: u64, stream: &Arc<OwnedFd>) -> usize {
        let mut streams = self.lock();
        streams.insert(id, Arc::clone(stream));
        streams.len()
    }

    /// Forgets a client, and closes its stream unless somebody still has it.
    pub fn leave(&self, id: u64) {
        self.lock().remove(&id);
        self.left.notify_one();
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.lock().len()
    }

    /// Waits until a client leaves, and no longer than `most`.
    pub fn wait_for_room(&self, most: Duration) {
        let streams = self.lock();
        drop(self.left.wait_timeout(streams, most));
    }

    /// Wakes every thread: what the kernel holds for it stays readable, then
    /// comes end of file. Waits until the last one has left.
    pub fn drain(&self, drain_timeout: Duration) {
        let deadline = Instant::now() + drain_timeout;
        let mut streams = self.lock();
        for stream in streams.values() {
            let _ = shutdown(stream.as_raw_fd(), Shutdown::Read);
        }
        while !streams.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                common::report_cut_off(streams.len());
                return;
            }
            let waited = self.left.wait_timeout(streams, left);
            streams = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The map is whole whenever the lock is free, even after a panic.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<OwnedFd>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
