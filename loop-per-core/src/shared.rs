//! All that the loops share: the settings, the number of clients, and the
//! descriptor in reserve. What changes is atomic, so no loop ever waits for
//! another.

use std::fs::File;
use std::os::fd::{IntoRawFd as _, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use nix::unistd::close;

use common::{Config, ConnectionLimit};

pub struct Shared {
    pub config: Config,
    /// How many loops there are.
    pub loops: u32,
    pub limit: ConnectionLimit,
    pub spare: SpareDescriptor,
    /// Places taken, in all loops together.
    clients: AtomicUsize,
}

impl Shared {
    /// Call it when everything is bound: limit counts what is left.
    pub fn new(config: Config, loops: u32) -> Result<Self> {
        let spare = SpareDescriptor::open()?;
        let limit = ConnectionLimit::new(&config, 1);
        let clients = AtomicUsize::new(0);
        Ok(Self { config, loops, limit, spare, clients })
    }

    /// The number of clients.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Takes a place, if there is one. The number never passes the limit, not
    /// even for a moment in which another loop would see it.
    pub fn acquire(&self) -> bool {
        let more = |clients| self.limit.allows(clients).then_some(clients + 1);
        let order = Ordering::Relaxed;
        self.clients.fetch_update(order, order, more).is_ok()
    }

    /// Gives a place back.
    pub fn release(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What [`common::SpareDescriptor`] is, for several loops: the limit of descriptors is
/// the process's, and so is this one.
///
/// With one for each loop, another loop could take in a new client with the
/// descriptor that this loop has just released, and keep it. Here whoever took
/// it cannot retake the reserve, and refuses.
pub struct SpareDescriptor {
    held: AtomicI32,
}

impl SpareDescriptor {
    fn open() -> Result<Self> {
        let held = null().context("cannot hold a descriptor in reserve")?;
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
            // Another loop was quicker; one is enough.
            let _ = close(fd);
        }
        true
    }
}

/// No descriptor.
const RELEASED: RawFd = -1;

fn null() -> std::io::Result<RawFd> {
    File::open("/dev/null").map(File::into_raw_fd)
}
