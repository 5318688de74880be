//! A receive is in progress in an io_uring without flags while a thread
//! computes. The kernel interrupts the thread and makes it copy.

use ::io_uring::IoUring;
use anyhow::Result;

use super::ring;
use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-io-uring",
    claim: "With asynchronous I/O, as in io_uring, the copy takes no time of \
            the thread that asked for it.",
    section: "Comparison of the five models",
    criterion: "A datagram arrives while the thread computes for 100 ms with a \
                receive in progress in a ring without flags. True if, in more \
                than three quarters of the rounds, the data is in the buffer \
                before the thread makes a call, and this thread had fewer than \
                half of the copy's page faults. False if that is so in at most \
                a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["io_uring(7)", "io_uring_setup(2), IORING_SETUP_COOP_TASKRUN"],
    explanation: "When the data arrives, the kernel adds work to the thread \
                  that submitted the receive, and interrupts it. The thread \
                  enters the kernel, copies the data itself, and goes on \
                  computing. The program makes no call for it, but the copy \
                  costs its processor time.",
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
    let ring = IoUring::new(ring::ENTRIES);
    let mut ring = ring::receiving(ring, &receiver, &buffer)?;
    let computed =
        computing::compute(&sender, &buffer, || ring::is_complete(&mut ring))?;
    computed.then_ask(&mut buffer, |_| ring::complete(&mut ring))
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, Round::is_copied_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, elsewhere, in_call};

    #[test]
    fn only_a_copy_by_another_thread_makes_it_true() {
        assert_eq!(judge(&[elsewhere(); 7]), Answer::True);
        assert_eq!(judge(&[by_interrupt(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(); 7]), Answer::False);
        assert_eq!(judge(&[by_interrupt(), elsewhere()]), Answer::Undecided);
    }
}
