//! The number that select returns counts bits, not descriptors.

use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::select::{FdSet, select};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::bitmap::Bitmap;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "select-returns",
    claim: "select returns how many bits are set in its three sets, 0 at a \
            timeout and -1 on an error.",
    section: "I/O multiplexing, select",
    criterion: "True if select returns 1, 2 and 3 for one descriptor that is \
                ready in one, two and three sets, 0 when the timeout expires, \
                and -1 with EBADF for a closed descriptor. False if one of the \
                five differs.",
    if_false: History::NeverTrue,
    sources: &["select(2), RETURN VALUE", "fs/select.c, do_select"],
    explanation: "The kernel adds 1 for each bit that it sets, so a socket \
                  that is ready for reading and for writing counts twice. A \
                  loop that looks at the sets until it has found that many \
                  descriptors must count bits too, or it never stops early.",
    run,
    file: file!(),
};

/// The results of select, -1 for an error.
#[derive(Clone, Copy, Debug)]
struct Returned {
    /// For one descriptor that is ready in one, two and three sets.
    ready: [i32; 3],
    timeout: i32,
    error: (i32, Option<Errno>),
}

fn run(_: Effort) -> Result<Finding> {
    let full = EventFd::from_value(1)?;
    let (socket, _sender) = socket_with_urgent_data()?;
    let returned = Returned {
        ready: [
            select_in(&full, 1)?,
            select_in(&full, 2)?,
            select_in(&socket, 3)?,
        ],
        timeout: select_in(&EventFd::new()?, 1)?,
        error: select_closed()?,
    };
    let figure = |name, number: i32| Figure::new(name, "", f64::from(number));
    Ok(Finding::new(
        judge(returned),
        [
            figure("returned, ready in two sets", returned.ready[1]),
            figure("returned, ready in one set", returned.ready[0]),
            figure("returned, ready in three sets", returned.ready[2]),
            figure("returned at a timeout", returned.timeout),
            figure("returned for a closed descriptor", returned.error.0),
        ],
    ))
}

/// Calls select with one descriptor in the first `count` of the sets for
/// reading, writing and exceptions.
fn select_in(fd: &impl AsFd, count: usize) -> Result<i32> {
    let mut sets = [FdSet::new(); 3];
    for set in sets.iter_mut().take(count) {
        set.insert(fd.as_fd());
    }
    let [read, write, except] = &mut sets;
    Ok(select(None, read, write, except, &mut TimeVal::milliseconds(1))?)
}

/// Returns a socket that is ready for reading and writing and that has urgent
/// data, and its peer.
fn socket_with_urgent_data() -> Result<(TcpStream, TcpStream)> {
    let (client, server) = net::connection()?;
    // The last byte is the urgent one.
    let sent = send(client.as_raw_fd(), b"ab", MsgFlags::MSG_OOB)?;
    ensure!(sent == 2, "short write");
    let mut except = FdSet::new();
    except.insert(server.as_fd());
    let mut patience = TimeVal::seconds(net::PATIENCE.as_secs() as i64);
    let urgent = select(None, None, None, &mut except, &mut patience)?;
    ensure!(urgent == 1, "no urgent data");
    Ok((server, client))
}

/// Calls select for a number that is no longer open. The set of another module
/// holds it, because the standard library's descriptors are always open.
fn select_closed() -> Result<(i32, Option<Errno>)> {
    let closed = OwnedFd::from(EventFd::new()?);
    let number = closed.as_raw_fd();
    // select ignores numbers above the highest open one.
    let _above = EventFd::new()?;
    drop(closed);
    let mut set = Bitmap::new(number as usize + 1);
    set.insert(number);
    Ok(match set.select(Duration::ZERO) {
        Ok(ready) => (ready as i32, None),
        Err(error) => (-1, Some(error)),
    })
}

fn judge(returned: Returned) -> Answer {
    Answer::from_bool(
        returned.ready == [1, 2, 3]
            && returned.timeout == 0
            && returned.error == (-1, Some(Errno::EBADF)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_descriptors_makes_it_false() {
        let bits = Returned {
            ready: [1, 2, 3],
            timeout: 0,
            error: (-1, Some(Errno::EBADF)),
        };
        assert_eq!(judge(bits), Answer::True);
        for other in [
            Returned { ready: [1, 1, 1], ..bits },
            Returned { timeout: -1, ..bits },
            Returned { error: (0, None), ..bits },
            Returned { error: (-1, Some(Errno::EINVAL)), ..bits },
        ] {
            assert_eq!(judge(other), Answer::False);
        }
    }
}
