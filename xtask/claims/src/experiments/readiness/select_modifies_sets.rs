//! select overwrites its arguments, poll keeps them.

use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "select-modifies-sets",
    claim: "select modifies the set that it is given; poll does not modify its \
            input.",
    section: "select and poll compared",
    criterion: "Two sockets are watched, one is ready. True if select removes \
                the other from its set, and poll leaves all descriptors and \
                events as they were. False if one of the two is different.",
    if_false: History::NeverTrue,
    sources: &["select(2)", "poll(2)"],
    explanation: "select has one set for the question and the answer, so a \
                  loop must fill it again before each call. poll has two \
                  fields, events and revents. Linux's select changes the \
                  timeout as well: what is left of it remains there.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let (ready, mut sender) = UnixStream::pair()?;
    let (silent, _other) = UnixStream::pair()?;
    sender.write_all(b"x")?;
    let sockets = [ready.as_fd(), silent.as_fd()];

    let mut set = FdSet::new();
    sockets.iter().for_each(|socket| set.insert(*socket));
    let mut timeout = TimeVal::seconds(10);
    let selected = select(None, &mut set, None, None, &mut timeout)?;
    ensure!(selected == 1, "select reports {selected} sockets");
    let left = sockets.iter().filter(|it| set.contains(**it)).count();

    let mut array = sockets.map(|it| PollFd::new(it, PollFlags::POLLIN));
    let polled = poll(&mut array, PollTimeout::from(1_000_u16))?;
    ensure!(polled == 1, "poll reports {polled} sockets");
    let kept = array.iter().zip(sockets).filter(|(entry, socket)| {
        let number = socket.as_raw_fd();
        let same = entry.as_fd().as_raw_fd() == number;
        same && entry.events() == PollFlags::POLLIN
    });
    let kept = kept.count();
    Ok(Finding::new(
        judge(left, kept),
        [
            Figure::new("of 2 sockets left in select's set", "", left),
            Figure::new("of 2 entries that poll keeps", "", kept),
        ],
    ))
}

fn judge(left: usize, kept: usize) -> Answer {
    Answer::from_bool(left == 1 && kept == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_must_be_so() {
        assert_eq!(judge(1, 2), Answer::True);
        assert_eq!(judge(2, 2), Answer::False);
        assert_eq!(judge(1, 1), Answer::False);
    }
}
