//! io_uring without flags: the kernel interrupts the computing thread to copy.

use std::cell::RefCell;

use anyhow::Result;
use io_uring::IoUring;

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};
use crate::kit::ring;

pub const CLAIM: Claim = Claim {
    id: "copies-io-uring",
    claim: "With asynchronous I/O, the copy costs the program's thread no \
                time.",
    section: "Asynchronous I/O, and the comparison of the five models",
    criterion: "A receive is submitted, and data arrives while the program \
                computes. True if in all runs the buffer is filled meanwhile \
                without the page faults of the copy on the program's thread. \
                False if that is so in no run.",
    if_false: History::NeverTrue,
    sources: &["io_uring_setup(2), IORING_SETUP_COOP_TASKRUN", "getrusage(2)"],
    explanation: "A ring without flags makes the program's own thread carry \
                out the receive: the kernel interrupts the thread, copies in \
                its context, and puts the completion into the shared queue. \
                The program made no call for it, but the time was its own.",
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
    let ring = IoUring::new(8);
    let ring = ring::receiving(ring, &receiver, &buffer)?;
    let ring = RefCell::new(ring);
    let told = || ring::has_completion(&mut ring.borrow_mut());
    computing::observe(&sender, &buffer, told, || {
        ring.borrow_mut().submit_and_wait(1)?;
        Ok(())
    })
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| run.copied_elsewhere())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_copy_on_this_thread_makes_it_false() {
        let (yes, no) = (made_up::elsewhere(), made_up::here());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
