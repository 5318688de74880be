//! Makes epoll instances, and asks them without waiting.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::kit::net::PATIENCE;

/// Returns eventfds. One is readable if its counter is not zero.
pub fn eventfds(count: usize) -> Result<Vec<EventFd>> {
    let new = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK);
    let made = (0..count).map(|_| new()).collect::<nix::Result<_>>();
    made.context("eventfd")
}

/// Returns an epoll instance that watches descriptors for input. An event's
/// data is the descriptor's place in the list.
pub fn instance<F: AsFd>(
    descriptors: impl IntoIterator<Item = F>,
    mode: EpollFlags,
) -> Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (place, descriptor) in descriptors.into_iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN | mode, place as u64);
        epoll.add(descriptor, event).context("epoll_ctl")?;
    }
    Ok(epoll)
}

/// Returns the number of events that epoll_wait reports at once.
pub fn reported(epoll: &Epoll) -> nix::Result<usize> {
    epoll.wait(&mut [EpollEvent::empty(); 16], EpollTimeout::ZERO)
}

/// Returns the number of events that epoll_wait reports within 100 ms. On a
/// busy machine, the kernel may deliver data after the send has returned.
pub fn reported_soon(epoll: &Epoll) -> nix::Result<usize> {
    epoll.wait(&mut [EpollEvent::empty(); 16], 100_u8)
}

/// Waits for exactly one event.
pub fn expect_one(epoll: &Epoll) -> Result<()> {
    let mut events = [EpollEvent::empty(); 2];
    let count = epoll.wait(&mut events, patience()?)?;
    ensure!(count == 1, "{count} events instead of one");
    Ok(())
}

/// Returns `PATIENCE` as a timeout of epoll_wait.
pub fn patience() -> Result<EpollTimeout> {
    Ok(EpollTimeout::try_from(PATIENCE)?)
}
