//! io_uring with IORING_SETUP_DEFER_TASKRUN: nothing is copied before the
//! program asks.

use std::cell::RefCell;

use anyhow::Result;
use io_uring::IoUring;

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};
use crate::kit::ring;

pub const CLAIM: Claim = Claim {
    id: "copies-io-uring-defer",
    claim: "With io_uring, the data is in the program's buffer before the \
                program asks for it.",
    section: "Asynchronous I/O, and the comparison of the five models",
    criterion: "A receive is submitted to a ring with \
                IORING_SETUP_DEFER_TASKRUN, and data arrives while the \
                program computes. True if in all runs the buffer is filled \
                meanwhile. False if it is filled in no run.",
    if_false: History::NeverTrue,
    sources: &["io_uring_setup(2), IORING_SETUP_DEFER_TASKRUN"],
    explanation: "The flag defers the work of completions to the next \
                io_uring_enter that waits for them. The program's thread \
                copies there, as a recv would. Servers prefer it, because \
                nothing interrupts them and the work is done in batches.",
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
    let ring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8);
    let ring = ring::receiving(ring, &receiver, &buffer)?;
    let ring = RefCell::new(ring);
    let told = || ring::has_completion(&mut ring.borrow_mut());
    computing::observe(&sender, &buffer, told, || {
        ring.borrow_mut().submit_and_wait(1)?;
        Ok(())
    })
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| run.copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_copy_when_asked_makes_it_false() {
        let (yes, no) = (made_up::here(), made_up::when_asked());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
