//! Registers descriptors with tokio's reactor, which waits for them with epoll,
//! edge-triggered, and wakes the tasks that await them.

use std::os::fd::OwnedFd;

use nix::sys::signalfd::SignalFd;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard, AsyncFdRegisterError};

/// A socket that was reported ready. The kernel reports an edge once, and tokio
/// caches it until clear_ready is called.
pub type Ready<'a> = AsyncFdReadyGuard<'a, OwnedFd>;

/// Registers a socket, which must be non-blocking, once, for reading, writing
/// and urgent data: epoll_ctl(ADD).
pub fn watch(
    socket: OwnedFd,
) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    let all = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    // SAFETY: an OwnedFd is an open descriptor, and stays the same one until
    // the AsyncFd drops it.
    unsafe { AsyncFd::register_with_interest(socket, all) }
}

/// Registers the signalfd.
pub fn watch_signals(
    signals: SignalFd,
) -> Result<AsyncFd<SignalFd>, AsyncFdRegisterError<SignalFd>> {
    // SAFETY: a SignalFd owns one descriptor, and never changes it.
    unsafe { AsyncFd::register(signals) }
}
