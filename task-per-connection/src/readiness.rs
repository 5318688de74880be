//! Descriptors to wait for: tokio has epoll watch them, by edges, and wakes
//! the task that waits.

use std::os::fd::OwnedFd;

use nix::sys::signalfd::SignalFd;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard, AsyncFdRegisterError};

/// A socket that was reported ready, until a call that says EAGAIN shows that
/// it is so no longer: the kernel reports it once, and tokio remembers.
pub type Ready<'a> = AsyncFdReadyGuard<'a, OwnedFd>;

/// epoll_ctl(ADD): once, for reading and writing. `socket` is non-blocking.
pub fn watch(
    socket: OwnedFd,
) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: an OwnedFd is an open descriptor, and stays the same one, until
    // it is dropped, which is left to the AsyncFd.
    unsafe { AsyncFd::register(socket) }
}

/// The same for signals.
pub fn watch_signals(
    signals: SignalFd,
) -> Result<AsyncFd<SignalFd>, AsyncFdRegisterError<SignalFd>> {
    // SAFETY: a SignalFd has one OwnedFd, and never another.
    unsafe { AsyncFd::register(signals) }
}
