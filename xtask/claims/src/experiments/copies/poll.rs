//! poll: nothing happens while the program computes. The next poll finds the
//! data, and a recv copies it.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};

pub const CLAIM: Claim = Claim {
    id: "copies-poll",
    claim: "With poll, the program itself copies the data, by a recv after \
                poll has returned.",
    section: "I/O multiplexing, and the comparison of the five models",
    criterion: "Data arrives while the program computes. True if in all runs \
                the program's thread has the page faults of the copy when it \
                asks, and neither its buffer nor the revents of an earlier \
                poll changed before. False if that is so in no run.",
    if_false: History::NeverTrue,
    sources: &["poll(2)", "getrusage(2)"],
    explanation: "poll does nothing between calls. The data waits in the \
                socket, the next poll finds it there, and recv copies it on \
                the program's own thread.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let runs = (0..effort.pick(7, 2)).map(|_| observe());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    Ok(Finding::new(judge(&runs), computing::figures(&runs)))
}

fn observe() -> Result<Observation> {
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    let mut earlier = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
    let mut later = earlier.clone();
    let ready = poll(&mut earlier, PollTimeout::ZERO)?;
    ensure!(ready == 0, "poll reports data before it was sent");
    let told = || earlier[0].any() == Some(true);
    computing::observe(&sender, &buffer, told, || {
        let ready = poll(&mut later, PollTimeout::ZERO)?;
        ensure!(ready == 1, "poll does not report the data");
        buffer.receive(&receiver)
    })
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| !run.told && run.copied_when_asked())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_copy_before_the_call_makes_it_false() {
        let (yes, no) = (made_up::when_asked(), made_up::here());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
