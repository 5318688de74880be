//! poll has a flag for data, for a half-close and for a reset; for select all
//! three are readable.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};
use socket2::SockRef;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "poll-event-types",
    claim: "poll reports more kinds of events than select.",
    section: "select and poll compared",
    criterion: "A client sends data, ends its side, or resets the connection. \
                True if poll's events differ between the three while select's \
                sets do not. False if poll tells no more apart than select.",
    if_false: History::NeverTrue,
    sources: &[
        "poll(2)",
        "select(2), Correspondence between select() and \
                poll() notifications",
    ],
    explanation: "select has three sets, and the kernel maps every kind of \
                  event to one of them, so data, an end and an error are all \
                  readable. poll names them: POLLIN, POLLRDHUP, POLLHUP, \
                  POLLERR. A server still needs recv to find the errno.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let data = observe(|mut client| Ok(client.write_all(b"x")?))?;
    let end = observe(|client| Ok(client.shutdown(Shutdown::Write)?))?;
    let reset = observe(|client| {
        // With a linger time of zero, close resets the connection.
        let socket = SockRef::from(client);
        Ok(socket.set_linger(Some(Duration::ZERO))?)
    })?;
    let cases = [data, end, reset];
    let (selected, polled) = distinct(&cases);
    Ok(Finding::new(
        judge(selected, polled),
        [
            Figure::new("of 3 cases told apart by poll", "", polled),
            Figure::new("of 3 cases told apart by select", "", selected),
        ],
    ))
}

/// The reports of both calls: select's three sets as bits, and poll's events.
type Reported = (u8, i16);

/// Does something to a connection and closes the client's side if it is to be
/// reset, then asks both calls about the server's side.
fn observe(act: impl FnOnce(&TcpStream) -> Result<()>) -> Result<Reported> {
    let (client, server) = net::connection()?;
    act(&client)?;
    let resets = SockRef::from(&client).linger()?.is_some();
    let _open = (!resets).then_some(client);
    let events = libc::POLLIN | libc::POLLPRI | libc::POLLRDHUP;
    let fd = server.as_raw_fd();
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: an array of one entry. A second is more than loopback needs. (nix
    // has no POLLRDHUP.)
    Errno::result(unsafe { libc::poll(&mut entry, 1, 1_000) })?;
    let [mut readable, mut except] = [FdSet::new(), FdSet::new()];
    readable.insert(server.as_fd());
    except.insert(server.as_fd());
    let now = &mut TimeVal::zero();
    select(None, &mut readable, None, &mut except, now)?;
    let sets = u8::from(readable.contains(server.as_fd()))
        | u8::from(except.contains(server.as_fd())) << 1;
    Ok((sets, entry.revents))
}

/// Returns the number of different reports of each call.
fn distinct(cases: &[Reported]) -> (usize, usize) {
    let mut sets: Vec<_> = cases.iter().map(|it| it.0).collect();
    let mut events: Vec<_> = cases.iter().map(|it| it.1).collect();
    sets.sort_unstable();
    sets.dedup();
    events.sort_unstable();
    events.dedup();
    (sets.len(), events.len())
}

fn judge(selected: usize, polled: usize) -> Answer {
    Answer::from_bool(polled > selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_cases_told_apart_make_it_true() {
        assert_eq!(judge(1, 3), Answer::True);
        assert_eq!(judge(2, 2), Answer::False);
        let (data, end) = ((1, libc::POLLIN), (1, libc::POLLHUP));
        assert_eq!(distinct(&[data, end, data]), (1, 2));
    }
}
