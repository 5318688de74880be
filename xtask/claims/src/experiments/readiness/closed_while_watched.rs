//! A thread waits for a socket that another thread closes.

use std::io::Write as _;
use std::os::fd::{BorrowedFd, IntoRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use lab::process::poll_until;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::{close, gettid};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net::PATIENCE;
use crate::kit::task;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "closed-while-watched",
    claim: "If another thread closes a descriptor that select or poll watches, \
            the result is undefined.",
    section: "select and poll compared",
    criterion: "A thread waits for a socket for up to 100 ms, another closes \
                it and then has data sent. False if select and poll report the \
                socket in all runs, or in none. True if the runs differ.",
    if_false: History::NeverTrue,
    sources: &["select(2), Multithreaded applications", "epoll(7), Questions"],
    explanation: "POSIX leaves it open, but Linux is consistent. select and \
                  poll hold the socket open until they return: the close does \
                  not wake them, later data does, and they report a number \
                  that no longer exists. epoll holds no socket open: closing \
                  it removes it, and nobody is woken.",
    run,
    file: file!(),
};

/// The longest wait of the watching thread, in ms.
const LONGEST: u16 = 100;

/// A way to wait for one descriptor; returns how many are reported.
type Wait = fn(RawFd) -> Result<i32>;

fn run(effort: Effort) -> Result<Finding> {
    let mut reported = [const { Vec::new() }; 3];
    let waits: [Wait; 3] = [by_select, by_poll, by_epoll];
    for _ in 0..effort.pick(10, 2) {
        for (wait, reported) in waits.into_iter().zip(&mut reported) {
            reported.push(f64::from(observe(wait)?));
        }
    }
    let [select, poll, epoll] = reported.map(Sample::new);
    Ok(Finding::new(
        judge(&select, &poll),
        [
            Figure::new("descriptors that select reports", "", select),
            Figure::new("descriptors that poll reports", "", poll),
            Figure::new("descriptors that epoll reports", "", epoll),
        ],
    ))
}

/// Closes a socket while a thread waits for it, sends data, and returns how
/// many descriptors the wait reports.
fn observe(wait: Wait) -> Result<i32> {
    let (mut sender, watched) = UnixStream::pair()?;
    // The number outlives its owner, which is what this is about.
    let watched = watched.into_raw_fd();
    let (ready, is_ready) = mpsc::channel();
    let thread = thread::spawn(move || {
        ready.send(gettid()).context("the other thread has ended")?;
        wait(watched)
    });
    let tid = is_ready.recv_timeout(PATIENCE)?;
    poll_until("the thread to wait", PATIENCE, || {
        let mut asleep = false;
        for call in WAITS {
            asleep |= task::sleeps_in(tid, *call)?;
        }
        Ok(asleep || thread.is_finished())
    })?;
    ensure!(!thread.is_finished(), "it did not wait");
    close(watched).context("close")?;
    // epoll's socket is gone with its descriptor, so sending may fail.
    let _ = sender.write_all(b"x");
    thread.join().ok().context("the thread panicked")?
}

/// The system calls in which the thread may sleep.
const WAITS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_pselect6,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
];

/// Borrows the number for a call that begins while it is open.
fn borrow(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the descriptor is open when the wait begins. It is closed during
    // the wait on purpose, and its number is not used again before the end.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

fn by_select(descriptor: RawFd) -> Result<i32> {
    let mut set = FdSet::new();
    set.insert(borrow(descriptor));
    let mut timeout = TimeVal::milliseconds(LONGEST.into());
    Ok(select(None, &mut set, None, None, &mut timeout)?)
}

fn by_poll(descriptor: RawFd) -> Result<i32> {
    let mut entry = [PollFd::new(borrow(descriptor), PollFlags::POLLIN)];
    Ok(poll(&mut entry, PollTimeout::from(LONGEST))?)
}

fn by_epoll(descriptor: RawFd) -> Result<i32> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
    epoll.add(borrow(descriptor), event)?;
    let mut events = [EpollEvent::empty()];
    let found = epoll.wait(&mut events, EpollTimeout::from(LONGEST))?;
    Ok(found as i32)
}

fn judge(select: &Sample, poll: &Sample) -> Answer {
    let (least, most) =
        (select.min().min(poll.min()), select.max().max(poll.max()));
    Answer::from_bool(least != most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_differ_make_it_true() {
        let [none, one] = [0.0, 1.0].map(Sample::from);
        let mixed = Sample::new(vec![0.0, 1.0]);
        assert_eq!(judge(&one, &one), Answer::False);
        assert_eq!(judge(&none, &none), Answer::False);
        assert_eq!(judge(&one, &none), Answer::True);
        assert_eq!(judge(&mixed, &one), Answer::True);
    }
}
