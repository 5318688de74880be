//! A notice from one thread to another: eventfd(2).

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A counter in the kernel that epoll reports while it is not zero.
pub struct Notice(EventFd);

impl Notice {
    pub fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags).map(Self).context("eventfd")
    }

    /// Wakes the thread that waits for it: now, or else at its next wait.
    pub fn send(&self) {
        // A call that doesn't block is not interrupted, and EAGAIN means that
        // the counter is at its maximum, which wakes that thread too
        // (eventfd(2)).
        let _ = self.0.write(1);
    }

    /// Sets the counter to zero, however often the notice was sent.
    pub fn clear(&self) -> Result<()> {
        match self.0.read() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("read(eventfd)"),
        }
    }
}

impl AsFd for Notice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
