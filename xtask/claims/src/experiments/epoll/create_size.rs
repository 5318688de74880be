//! The size argument of epoll_create means nothing, but zero is rejected.

use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "epoll-create-size",
    claim: "epoll_create ignores its size argument, but the argument must be \
            greater than zero.",
    section: "I/O multiplexing, epoll",
    criterion: "True if an instance that was made with size 1 reports 1,000 \
                descriptors, as one made with 0xCAFE does, and epoll_create \
                fails with EINVAL for the sizes 0 and -1. False otherwise.",
    if_false: History::NeverTrue,
    sources: &["epoll_create(2)", "fs/eventpoll.c, epoll_create"],
    explanation: "The size was a hint for how much memory to allocate. The \
                  kernel now allocates as needed. It still rejects a size that \
                  isn't positive, so that a program that works also works on \
                  old kernels. epoll_create1 has no such argument.",
    run,
    file: file!(),
};

/// Descriptors to register.
const COUNT: usize = 1_000;

fn run(_: Effort) -> Result<Finding> {
    let (small, large) = (held(1)?, held(0xcafe)?);
    let rejected =
        [0, -1].map(|size| create(size).err() == Some(Errno::EINVAL));
    let rejected = rejected.into_iter().filter(|it| *it).count();
    Ok(Finding::new(
        judge(small, large, rejected),
        [
            Figure::new("descriptors reported, size 1", "", small),
            Figure::new("descriptors reported, size 0xCAFE", "", large),
            Figure::new("of sizes 0 and -1, rejected", "", rejected),
        ],
    ))
}

/// Returns how many of `COUNT` readable descriptors an instance of this size
/// accepts and reports.
fn held(size: i32) -> Result<usize> {
    let eventfds = watch::eventfds(COUNT)?;
    let epoll = create(size)?;
    let mut accepted = 0;
    for eventfd in &eventfds {
        eventfd.write(1)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        accepted += usize::from(epoll.add(eventfd, event).is_ok());
    }
    let mut events = vec![EpollEvent::empty(); COUNT];
    let reported = epoll.wait(&mut events, EpollTimeout::ZERO)?;
    ensure!(reported == accepted, "{accepted} accepted, {reported} reported");
    Ok(reported)
}

fn create(size: i32) -> nix::Result<Epoll> {
    // SAFETY: epoll_create takes a number.
    let fd = Errno::result(unsafe { libc::epoll_create(size) })?;
    // SAFETY: the descriptor is new, and has no other owner.
    Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Judges the numbers of descriptors, and of invalid sizes rejected.
fn judge(small: usize, large: usize, rejected: usize) -> Answer {
    Answer::from_bool([small, large] == [COUNT; 2] && rejected == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_with_a_meaning_makes_it_false() {
        assert_eq!(judge(1_000, 1_000, 2), Answer::True);
        assert_eq!(judge(1, 1_000, 2), Answer::False);
        assert_eq!(judge(1_000, 1_000, 1), Answer::False);
    }
}
