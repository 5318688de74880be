//! poll says why a descriptor can be read: data, the peer's end of the stream,
//! or a reset. select has one bit for all of them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use anyhow::{Result, ensure};
use libc::{POLLIN, POLLOUT, POLLPRI, POLLRDHUP, c_int, c_short};
use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};
use socket2::SockRef;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "poll-event-types",
    claim: "poll reports more types of events than select.",
    section: "select and poll, comparison of their functions",
    criterion: "A TCP socket is looked at in four states: with data, \
                half-closed by the peer, closed in both directions, and reset. \
                True if poll's results tell more of them apart than those of \
                select. False if not.",
    if_false: History::NeverTrue,
    sources: &[
        "poll(2), POLLRDHUP, POLLHUP and POLLERR",
        "select(2), correspondence between select and poll notifications",
    ],
    explanation: "In the kernel, both calls get the same events from the \
                  socket. select puts POLLIN, POLLHUP and POLLERR into one \
                  bit, \"can be read\", and has no bit for POLLRDHUP. So with \
                  select, a program needs another call, such as a read, to \
                  tell data from the end of the stream and from an error.",
    run,
    file: file!(),
};

/// Whether select reports a socket as readable, as writable, and as
/// exceptional.
type Ready = [bool; 3];

/// The reports of both calls about a socket in one state.
type Report = (c_short, Ready);

fn run(_: Effort) -> Result<Finding> {
    let reports = [
        report(&with_data()?)?,
        report(&half_closed()?)?,
        report(&closed()?)?,
        report(&reset()?)?,
    ];
    let (by_poll, by_select) = told_apart(&reports);
    Ok(Finding::new(
        judge(by_poll, by_select),
        [
            Figure::new("different reports on 4 states, poll", "", by_poll),
            Figure::new("different reports on 4 states, select", "", by_select),
        ],
    ))
}

/// A socket, and its peer unless that is closed.
type Socket = (TcpStream, Option<TcpStream>);

fn with_data() -> Result<Socket> {
    let (mut peer, socket) = net::connection()?;
    peer.write_all(b"x")?;
    ensure!(socket.peek(&mut [0])? == 1, "no data");
    Ok((socket, Some(peer)))
}

fn half_closed() -> Result<Socket> {
    let (peer, socket) = net::connection()?;
    peer.shutdown(Shutdown::Write)?;
    ensure!(socket.peek(&mut [0])? == 0, "not the end of the stream");
    Ok((socket, Some(peer)))
}

fn closed() -> Result<Socket> {
    let (socket, peer) = half_closed()?;
    socket.shutdown(Shutdown::Write)?;
    Ok((socket, peer))
}

/// Returns a socket that the peer has reset: closed with data to be discarded.
fn reset() -> Result<Socket> {
    let (peer, socket) = net::connection()?;
    SockRef::from(&peer).set_linger(Some(Duration::ZERO))?;
    drop(peer);
    // A read would clear the error, so poll waits for it.
    let patience = net::PATIENCE.as_millis() as c_int;
    ensure!(poll(&socket, 0, patience)? != 0, "no reset");
    Ok((socket, None))
}

/// Asks poll and select about a socket, without waiting.
fn report((socket, _): &Socket) -> Result<Report> {
    let events = poll(socket, POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0)?;
    let mut sets = [FdSet::new(); 3];
    for set in &mut sets {
        set.insert(socket.as_fd());
    }
    let [read, write, except] = &mut sets;
    select(None, read, write, except, &mut TimeVal::zero())?;
    Ok((events, sets.map(|set| set.contains(socket.as_fd()))))
}

/// Returns the events that poll reports. nix's `PollFlags` lacks `POLLRDHUP`.
fn poll(
    socket: &TcpStream,
    events: c_short,
    timeout: c_int,
) -> Result<c_short> {
    let fd = socket.as_raw_fd();
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: the array has one entry.
    Errno::result(unsafe { libc::poll(&mut entry, 1, timeout) })?;
    Ok(entry.revents)
}

/// Returns how many different results there are of poll and of select.
fn told_apart(reports: &[Report]) -> (usize, usize) {
    let by_poll: BTreeSet<_> = reports.iter().map(|it| it.0).collect();
    let by_select: BTreeSet<_> = reports.iter().map(|it| it.1).collect();
    (by_poll.len(), by_select.len())
}

fn judge(by_poll: usize, by_select: usize) -> Answer {
    Answer::from_bool(by_poll > by_select)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_results_are_not_told_apart() {
        let data = (POLLIN, [true, true, false]);
        let end = (POLLIN | POLLRDHUP, [true, true, false]);
        assert_eq!(told_apart(&[data, end, end]), (2, 1));
        assert_eq!(judge(2, 1), Answer::True);
        assert_eq!(judge(2, 2), Answer::False);
        assert_eq!(judge(1, 2), Answer::False);
    }
}
