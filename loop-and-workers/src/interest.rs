//! The interest list of an epoll instance, and what is on it besides the
//! connections.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

/// Creates an epoll instance, with an empty interest list.
pub fn new_epoll() -> Result<Epoll> {
    Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")
}

/// Adds a descriptor that is not a connection to an interest list.
pub fn watch(
    epoll: &Epoll,
    fd: impl AsFd,
    interest: EpollFlags,
    key: u64,
) -> Result<()> {
    // Readiness can be spurious, so no call on a socket may block.
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .context("O_NONBLOCK")?;
    epoll.add(fd, EpollEvent::new(interest, key)).context("epoll_ctl")
}
