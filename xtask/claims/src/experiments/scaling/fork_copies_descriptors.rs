//! fork copies the descriptor table: parent and child have the accepted socket,
//! and each must close its own descriptor of it.

use std::io::{ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;

use anyhow::Result;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{Whence, close, lseek};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{child::Child, net};
use crate::sample::percent;

pub const CLAIM: Claim = Claim {
    id: "fork-copies-descriptors",
    claim: "fork copies the descriptor table, so the child has the accepted \
            socket too, and the copies refer to one open file.",
    section: "How a server serves more, processes",
    criterion: "True if, in each round, the child sends over the descriptor \
                and closes it and the parent's still works, the connection \
                lasts when the parent has closed its own and a child has not, \
                and a file position that the child sets is the parent's too. \
                False otherwise.",
    if_false: History::NeverTrue,
    sources: &["fork(2)", "close(2)", "open(2)"],
    explanation: "The table of the child has entries of its own, which refer \
                  to the same open file descriptions. The kernel counts the \
                  references, and closes the connection with the last one. A \
                  server that forks therefore closes the accepted socket in \
                  the parent; else the client never receives EOF.",
    run,
    file: file!(),
};

/// The file position that the child sets.
const POSITION: i64 = 7;

/// How often each statement was found true.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    rounds: usize,
    closed_alone: usize,
    kept_open: usize,
    moved: usize,
}

fn run(effort: Effort) -> Result<Finding> {
    let mut counts = Counts::default();
    for _ in 0..effort.pick(100, 10) {
        counts.rounds += 1;
        counts.closed_alone += usize::from(close_in_the_child()?);
        counts.kept_open += usize::from(close_in_the_parent()?);
        counts.moved += usize::from(seek_in_the_child()?);
    }
    let percent = |part| percent(part, counts.rounds);
    Ok(Finding::new(
        judge(counts),
        [
            ("works after the child's close", percent(counts.closed_alone)),
            ("lasts after the parent's close", percent(counts.kept_open)),
            ("position set by the child", percent(counts.moved)),
        ]
        .map(|(name, value)| Figure::new(name, "%", value)),
    ))
}

/// Returns whether the parent's descriptor works after the child has used and
/// closed its own.
fn close_in_the_child() -> Result<bool> {
    let (mut client, server) = net::connection()?;
    let child = Child::start(|| {
        let sent = send(server.as_raw_fd(), b"c", MsgFlags::empty());
        let closed = close(server.as_raw_fd());
        i32::from(sent != Ok(1) || closed.is_err())
    })?;
    child.succeed()?;
    let sent = send(server.as_raw_fd(), b"p", MsgFlags::empty());
    let mut received = [0; 2];
    Ok(sent == Ok(1)
        && client.read_exact(&mut received).is_ok()
        && received == *b"cp")
}

/// Returns whether the client receives no EOF when the parent has closed its
/// descriptor, but receives it when the child, which did nothing, has ended.
fn close_in_the_parent() -> Result<bool> {
    let (mut client, server) = net::connection()?;
    let child = Child::asleep()?;
    drop(server);
    client.set_nonblocking(true)?;
    let before = client.read(&mut [0]).map_err(|error| error.kind());
    drop(child);
    client.set_nonblocking(false)?;
    let after = client.read(&mut [0])?;
    Ok(before == Err(ErrorKind::WouldBlock) && after == 0)
}

/// Returns whether the parent reads from where the child has moved to.
fn seek_in_the_child() -> Result<bool> {
    let file = memfd_create("shared", MFdFlags::empty())?;
    let child = Child::start(|| {
        lseek(&file, POSITION, Whence::SeekSet).is_err().into()
    })?;
    child.succeed()?;
    Ok(lseek(&file, 0, Whence::SeekCur)? == POSITION)
}

fn judge(counts: Counts) -> Answer {
    let Counts { rounds, closed_alone, kept_open, moved } = counts;
    Answer::from_bool([closed_alone, kept_open, moved] == [rounds; 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_must_hold_in_each_round() {
        let all = Counts { rounds: 9, closed_alone: 9, kept_open: 9, moved: 9 };
        assert_eq!(judge(all), Answer::True);
        assert_eq!(judge(Counts { closed_alone: 8, ..all }), Answer::False);
        assert_eq!(judge(Counts { kept_open: 0, ..all }), Answer::False);
        assert_eq!(judge(Counts { moved: 0, ..all }), Answer::False);
    }
}
