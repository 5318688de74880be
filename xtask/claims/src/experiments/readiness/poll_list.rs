//! poll's entries are an array in the program's memory; the kernel keeps
//! nothing between two calls.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "poll-linked-list",
    claim: "poll keeps the descriptors in a linked list, which is why it has \
            no limit.",
    section: "circulates",
    criterion: "The entries are moved to another place in memory between two \
                calls, and half of them are left out. False if the second call \
                reports exactly the ready sockets among those that it is \
                given. True if it still reports one that was left out, or \
                fails.",
    if_false: History::NeverTrue,
    sources: &["poll(2)", "fs/select.c, do_sys_poll"],
    explanation: "The argument is an array with its length, which the caller \
                  owns, and the kernel copies it in each call. It has no limit \
                  because the length is an argument, where the size of fd_set \
                  is fixed. The kernel chains the pages of its own copy, which \
                  may be where the list comes from.",
    run,
    file: file!(),
};

/// Sockets, all of them ready.
const COUNT: usize = 600;

fn run(_effort: Effort) -> Result<Finding> {
    let pairs: Vec<_> =
        (0..COUNT).map(|_| UnixStream::pair()).collect::<Result<_, _>>()?;
    for (_, sender) in &pairs {
        (&mut &*sender).write_all(b"x")?;
    }
    let entries = |step| -> Vec<_> {
        let sockets = pairs.iter().step_by(step);
        sockets
            .map(|(it, _)| PollFd::new(it.as_fd(), PollFlags::POLLIN))
            .collect()
    };
    let mut first = entries(1);
    let all = poll(&mut first, PollTimeout::ZERO)?;
    ensure!(all as usize == COUNT, "{all} of {COUNT} are ready");
    // Another array, while the first still exists.
    let mut second = entries(2);
    let half = poll(&mut second, PollTimeout::ZERO)?;
    let marked = second.iter().filter(|it| it.any() == Some(true)).count();
    Ok(Finding::new(
        judge(half as usize, marked),
        [
            Figure::new("reported by the second call", "", half as usize),
            Figure::new("entries given to it", "", COUNT / 2),
            Figure::new("bytes per entry", "bytes", size_of::<PollFd<'_>>()),
        ],
    ))
}

fn judge(reported: usize, marked: usize) -> Answer {
    Answer::from_bool(reported != COUNT / 2 || marked != COUNT / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_must_not_be_reported() {
        assert_eq!(judge(COUNT / 2, COUNT / 2), Answer::False);
        assert_eq!(judge(COUNT, COUNT / 2), Answer::True);
        assert_eq!(judge(0, 0), Answer::True);
    }
}
