//! How many threads a new connection wakes up, by the call in which they wait.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{Shutdown, shutdown};

use super::herd::{self, Herd};
use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net::PATIENCE;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "accept-herd",
    claim: "Threads that wait for connections on one listener need a lock, \
            because otherwise each connection wakes up all of them.",
    section: "circulates",
    criterion: "Eight threads wait, and connections come one after the other. \
                True if a connection wakes up more than two threads that wait \
                in accept, in poll, and in epoll_wait with an instance per \
                thread. False if it wakes up at most two in each of these. \
                Depends if they differ.",
    if_false: History::NeverTrue,
    sources: &[
        "epoll_ctl(2), EPOLLEXCLUSIVE",
        "socket(7), SO_REUSEPORT",
        "net/ipv4/inet_connection_sock.c, inet_csk_wait_for_connect",
    ],
    explanation: "Threads in a blocking accept queue as exclusive waiters, and \
                  the kernel wakes up one of them per connection. poll and \
                  epoll wake up all waiters, because readiness concerns each \
                  of them; one thread gets the connection, the others find \
                  nothing. EPOLLEXCLUSIVE, or a listener per thread with \
                  SO_REUSEPORT, prevents this without a lock.",
    run,
    file: file!(),
};

/// Threads that wait.
const THREADS: usize = 8;

/// How a thread waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Accept,
    Poll,
    Epoll,
    Exclusive,
    /// In accept, on a listener of its own.
    ReusePort,
}

fn run(effort: Effort) -> Result<Finding> {
    use Wait::{Accept, Epoll, Exclusive, Poll, ReusePort};
    let connections = effort.pick(50, 10);
    let woken = |wait| woken(wait, connections);
    let [accept, poll, epoll] = [woken(Accept)?, woken(Poll)?, woken(Epoll)?];
    Ok(Finding::new(
        judge([&accept, &poll, &epoll]),
        [
            Figure::new("woken per connection, accept", "", accept),
            Figure::new("poll", "", poll),
            Figure::new("epoll", "", epoll),
            Figure::new("epoll, EPOLLEXCLUSIVE", "", woken(Exclusive)?),
            Figure::new("accept, SO_REUSEPORT", "", woken(ReusePort)?),
        ],
    ))
}

/// Returns how many times threads woke up, for each of the connections.
fn woken(wait: Wait, connections: usize) -> Result<Sample> {
    let count = if wait == Wait::ReusePort { THREADS } else { 1 };
    let listeners = herd::listeners(count)?;
    let herd = Herd::new(THREADS);
    thread::scope(|scope| {
        let herd = &herd;
        let places = (0..THREADS).zip(listeners.iter().cycle());
        let serve = |(place, listener)| {
            scope.spawn(move || serve(wait, listener, herd, place))
        };
        let threads: Vec<_> = places.map(serve).collect();
        let woken = herd.woken_by(&listeners[0], connections);
        herd.stop();
        for listener in &listeners {
            // Each waiting call returns.
            shutdown(listener.as_raw_fd(), Shutdown::Read)?;
        }
        for thread in threads {
            let Ok(result) = thread.join() else { bail!("a thread panicked") };
            result?;
        }
        woken
    })
}

/// Waits for connections and accepts them, in one of the threads.
fn serve(
    wait: Wait,
    listener: &TcpListener,
    herd: &Herd,
    place: usize,
) -> Result<()> {
    let mode = match wait {
        Wait::Accept | Wait::ReusePort => {
            return herd.repeat(place, || listener.accept().map(drop));
        }
        Wait::Poll => {
            listener.set_nonblocking(true)?;
            let timeout = PollTimeout::try_from(PATIENCE)?;
            let entry = PollFd::new(listener.as_fd(), PollFlags::POLLIN);
            return herd.repeat(place, || {
                poll(&mut [entry.clone()], timeout)?;
                listener.accept().map(drop)
            });
        }
        Wait::Epoll => EpollFlags::empty(),
        Wait::Exclusive => EpollFlags::EPOLLEXCLUSIVE,
    };
    listener.set_nonblocking(true)?;
    let epoll = watch::instance([listener], mode)?;
    let timeout = watch::patience()?;
    herd.repeat(place, || {
        epoll.wait(&mut [EpollEvent::empty()], timeout)?;
        listener.accept().map(drop)
    })
}

/// Judges the numbers of threads woken in accept, poll and epoll_wait.
fn judge(woken: [&Sample; 3]) -> Answer {
    match woken.map(|it| it.is_above(2.0)) {
        [one, two, three] if one == two && two == three => one,
        herds if herds.contains(&Answer::Undecided) => Answer::Undecided,
        _ => Answer::Depends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_herd_in_some_calls_only_makes_it_depend() {
        let [one, all] = [1.0, 8.0].map(Sample::from);
        let some = Sample::new(vec![1.0, 1.0, 8.0, 8.0]);
        assert_eq!(judge([&all, &all, &all]), Answer::True);
        assert_eq!(judge([&one, &one, &one]), Answer::False);
        assert_eq!(judge([&one, &all, &all]), Answer::Depends);
        assert_eq!(judge([&one, &some, &all]), Answer::Undecided);
    }
}
