//! All that the loops share: the settings, the number of clients, and the spare
//! descriptor. The latter two are atomic, so no loop ever waits for another.

use std::fs::File;
use std::os::fd::{IntoRawFd as _, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use nix::unistd::close;

use common::{Config, ConnectionLimit};

use crate::listener::Accept;

pub struct Shared {
    pub config: Config,
    pub accept: Accept,
    /// The number of loops.
    pub loops: u32,
    pub limit: ConnectionLimit,
    pub spare: SpareDescriptor,
    /// The number of clients of all loops.
    clients: AtomicUsize,
}

impl Shared {
    /// Call it when everything is bound, because the connection limit depends
    /// on the descriptors that are left.
    pub fn new(config: Config, accept: Accept, loops: u32) -> Result<Self> {
        let spare = SpareDescriptor::open()?;
        let limit = ConnectionLimit::new(&config, 1);
        let clients = AtomicUsize::new(0);
        Ok(Self { config, accept, loops, limit, spare, clients })
    }

    /// Returns the number of clients of all loops.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts a new client. Returns false at the connection limit, which the
    /// number never exceeds, not even for a moment.
    pub fn acquire(&self) -> bool {
        let more = |clients| self.limit.allows(clients).then_some(clients + 1);
        let order = Ordering::Relaxed;
        self.clients.fetch_update(order, order, more).is_ok()
    }

    /// Stops counting a client that has gone.
    pub fn release(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A [`common::SpareDescriptor`] for all loops together, because the limit of
/// descriptors applies to the whole process.
///
/// If each loop had its own, another loop could accept a connection with the
/// descriptor that this loop has just released, and keep it. With one for all,
/// that loop finds it released too, can't reacquire it, and rejects the
/// connection.
pub struct SpareDescriptor {
    held: AtomicI32,
}

impl SpareDescriptor {
    fn open() -> Result<Self> {
        let held = null().context("cannot open a spare descriptor")?;
        Ok(Self { held: AtomicI32::new(held) })
    }

    /// Closes the descriptor, so that another can be opened. Returns false if
    /// it was closed already.
    pub fn release(&self) -> bool {
        let held = self.held.swap(RELEASED, Ordering::Relaxed);
        held != RELEASED && close(held).is_ok()
    }

    /// Opens a spare descriptor again, if it was released. Returns false if
    /// there is none.
    pub fn reacquire(&self) -> bool {
        if self.held.load(Ordering::Relaxed) != RELEASED {
            return true;
        }
        let Ok(fd) = null() else { return false };
        let order = Ordering::Relaxed;
        let kept = self.held.compare_exchange(RELEASED, fd, order, order);
        if kept.is_err() {
            // Another loop has reacquired it in the meantime.
            let _ = close(fd);
        }
        true
    }
}

/// The value of `held` while the descriptor is released.
const RELEASED: RawFd = -1;

fn null() -> std::io::Result<RawFd> {
    File::open("/dev/null").map(File::into_raw_fd)
}
