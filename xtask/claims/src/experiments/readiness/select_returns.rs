//! The return value of select: the ready bits of all sets, 0 at the timeout,
//! -1 for an error.

use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::{mem, ptr};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "select-returns",
    claim: "select returns a number greater than 0 if it succeeds, 0 at the \
            timeout and -1 for an error.",
    section: "select",
    criterion: "True if select returns 2 for one socket that is both readable \
                and writable, 0 for one that is never readable within 1 ms, \
                and -1 (EBADF) for a descriptor that was closed. False if one \
                of the three is different.",
    if_false: History::NeverTrue,
    sources: &["select(2)"],
    explanation: "The number counts bits, not descriptors: a socket that is \
                  ready for reading and for writing counts twice. So it is no \
                  index and no number of ready clients; the sets themselves \
                  must be searched.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let (ours, theirs) = UnixStream::pair()?;
    let timeout = &mut TimeVal::milliseconds(1);
    let mut silent = FdSet::new();
    silent.insert(ours.as_fd());
    let at_timeout = select(None, &mut silent, None, None, timeout)?;

    let timeout = &mut TimeVal::seconds(10);
    (&theirs).write_all(b"x")?;
    let (mut readable, mut writable) = (FdSet::new(), FdSet::new());
    readable.insert(ours.as_fd());
    writable.insert(ours.as_fd());
    let ready = select(None, &mut readable, &mut writable, None, timeout)?;

    // The set still has the number when its descriptor is closed.
    let mut stale = libc_set(&ours);
    let width = ours.as_raw_fd() + 1;
    drop(ours);
    let none = ptr::null_mut();
    // SAFETY: the set is initialized; the other pointers may be null.
    let failed =
        unsafe { libc::select(width, &mut stale, none, none, none.cast()) };
    let errno = Errno::last();
    Ok(Finding::new(
        judge(ready, at_timeout, failed, errno),
        [
            Figure::new(
                "one socket, readable and writable",
                "",
                ready as usize,
            ),
            Figure::new("at the timeout", "", at_timeout as usize),
            Figure::new("a closed descriptor", "", f64::from(failed)),
        ],
    ))
}

/// Returns a set of one descriptor, as the C library has it.
fn libc_set(socket: &UnixStream) -> libc::fd_set {
    // SAFETY: `fd_set` is an array of numbers; zero is an empty set.
    let mut set: libc::fd_set = unsafe { mem::zeroed() };
    let fd = socket.as_raw_fd();
    // SAFETY: the descriptors of this process are below FD_SETSIZE.
    unsafe { libc::FD_SET(fd, &mut set) };
    set
}

fn judge(ready: i32, at_timeout: i32, failed: i32, errno: Errno) -> Answer {
    let is_error = failed == -1 && errno == Errno::EBADF;
    Answer::from_bool(ready == 2 && at_timeout == 0 && is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_three_must_be_so() {
        assert_eq!(judge(2, 0, -1, Errno::EBADF), Answer::True);
        assert_eq!(judge(1, 0, -1, Errno::EBADF), Answer::False);
        assert_eq!(judge(2, 1, -1, Errno::EBADF), Answer::False);
        assert_eq!(judge(2, 0, 0, Errno::EBADF), Answer::False);
    }
}
