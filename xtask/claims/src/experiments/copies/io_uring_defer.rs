//! A receive is in progress in an io_uring with IORING_SETUP_DEFER_TASKRUN
//! while a thread computes. The kernel copies when the thread enters the ring.

use ::io_uring::IoUring;
use anyhow::Result;

use super::ring;
use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-io-uring-defer",
    claim: "A ring with IORING_SETUP_DEFER_TASKRUN copies nothing until the \
            program calls io_uring_enter, which copies on its thread.",
    section: "circulates",
    criterion: "A datagram arrives while the thread computes for 100 ms with a \
                receive in progress. True if, in more than three quarters of \
                the rounds, there is no completion and the data is not in the \
                buffer before the thread makes a call, and io_uring_enter has \
                at least half of the copy's page faults on this thread. False \
                if that is so in at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["io_uring_setup(2), IORING_SETUP_DEFER_TASKRUN"],
    explanation: "The flag makes the kernel keep the work of the ring until \
                  the thread asks for completions, so nothing interrupts the \
                  thread. The program learns of data as late as with epoll, \
                  but one call copies the data and reports it.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let rounds = computing::rounds(effort, round)?;
    Ok(computing::finding(judge(&rounds), &rounds))
}

fn round() -> Result<Round> {
    let (sender, receiver) = computing::sockets()?;
    let mut buffer = Buffer::new()?;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ring::ENTRIES);
    let mut ring = ring::receiving(ring, &receiver, &buffer)?;
    let computed =
        computing::compute(&sender, &buffer, || ring::is_complete(&mut ring))?;
    computed.then_ask(&mut buffer, |_| ring::complete(&mut ring))
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, |it| !it.told && it.is_copied_in_call())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, elsewhere, in_call};

    #[test]
    fn a_copy_before_the_call_makes_it_false() {
        assert_eq!(judge(&[in_call(); 7]), Answer::True);
        assert_eq!(judge(&[by_interrupt(); 7]), Answer::False);
        assert_eq!(judge(&[elsewhere(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), by_interrupt()]), Answer::Undecided);
    }
}
