//! A registration belongs to the open file description, not to the descriptor.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::ptr;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollFlags};
use nix::sys::eventfd::EventFd;
use nix::unistd::dup;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "epoll-dup-close",
    claim: "Closing a descriptor removes it from the interest list of epoll.",
    section: "circulates",
    criterion: "A readable descriptor is registered and closed, once alone and \
                once while a duplicate is open. True if epoll_wait reports \
                nothing afterwards in either case, false if it reports the \
                descriptor in both. Depends if it reports it only while the \
                duplicate is open, and EPOLL_CTL_DEL fails with EBADF.",
    if_false: History::NeverTrue,
    sources: &["epoll(7), questions and answers", "fs/eventpoll.c"],
    explanation: "The registration belongs to the open file description, and \
                  the kernel removes it when the description is released. \
                  dup and fork make further descriptors for it, so closing \
                  one releases nothing. epoll then reports a number that is \
                  closed, and EPOLL_CTL_DEL can't name the registration.",
    run,
    file: file!(),
};

/// The behaviour of epoll after the registered descriptor was closed.
#[derive(Clone, Copy, Debug)]
struct Aftermath {
    reported: bool,
    /// EPOLL_CTL_DEL fails with EBADF.
    removal_fails: bool,
}

fn run(_: Effort) -> Result<Finding> {
    let alone = {
        let eventfd = watch::eventfds(1)?.remove(0);
        eventfd.write(1)?;
        close_registered(eventfd)?
    };
    let duplicated = {
        let eventfd = watch::eventfds(1)?.remove(0);
        eventfd.write(1)?;
        let _duplicate = dup(&eventfd)?;
        close_registered(eventfd)?
    };
    let figure = |name, it: bool| Figure::new(name, "", usize::from(it));
    Ok(Finding::new(
        judge(alone, duplicated),
        [
            figure("events, a duplicate is open", duplicated.reported),
            figure("events, no duplicate", alone.reported),
            figure("DEL fails with EBADF", duplicated.removal_fails),
        ],
    ))
}

/// Registers a readable descriptor and closes it.
fn close_registered(eventfd: EventFd) -> Result<Aftermath> {
    let epoll = watch::instance([&eventfd], EpollFlags::empty())?;
    watch::expect_one(&epoll)?;
    let closed = eventfd.as_fd().as_raw_fd();
    drop(eventfd);
    let reported = watch::reported(&epoll)? == 1;
    let removal_fails = remove(&epoll, closed) == Err(Errno::EBADF);
    Ok(Aftermath { reported, removal_fails })
}

/// Asks epoll to remove a number that may be closed.
fn remove(epoll: &Epoll, number: RawFd) -> nix::Result<()> {
    let (fd, none) = (epoll.0.as_raw_fd(), ptr::null_mut());
    // SAFETY: EPOLL_CTL_DEL reads no event, and accepts any number.
    let result =
        unsafe { libc::epoll_ctl(fd, libc::EPOLL_CTL_DEL, number, none) };
    Errno::result(result).map(drop)
}

fn judge(alone: Aftermath, duplicated: Aftermath) -> Answer {
    match (alone.reported, duplicated.reported) {
        (false, false) => Answer::True,
        (true, true) => Answer::False,
        (false, true) if duplicated.removal_fails => Answer::Depends,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_after_close_makes_it_depend_on_duplicates() {
        let after = |reported| Aftermath { reported, removal_fails: true };
        assert_eq!(judge(after(false), after(false)), Answer::True);
        assert_eq!(judge(after(true), after(true)), Answer::False);
        assert_eq!(judge(after(false), after(true)), Answer::Depends);
        assert_eq!(judge(after(true), after(false)), Answer::Undecided);
    }
}
