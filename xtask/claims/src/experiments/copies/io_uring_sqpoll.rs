//! A receive is in progress in an io_uring with IORING_SETUP_SQPOLL while a
//! thread computes. The thread of the kernel that polls the queue copies.

use ::io_uring::IoUring;
use anyhow::Result;

use super::ring;
use crate::claim::{Answer, Claim, Copier, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round, Thread};

pub const CLAIM: Claim = Claim {
    id: "copies-io-uring-sqpoll",
    claim: "With IORING_SETUP_SQPOLL, a thread of the kernel copies the data \
            while the program computes.",
    section: "circulates",
    criterion: "A datagram arrives while the thread computes for 100 ms, and \
                for up to a second until a receive in progress completes. True \
                if, in more than three quarters of the rounds, the data is in \
                the buffer before the thread makes a call, and at least half \
                of the copy's page faults belong to a thread of the kernel, \
                named iou-*. False if that is so in at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["io_uring_setup(2), IORING_SETUP_SQPOLL", "io_uring/sqpoll.c"],
    explanation: "The kernel starts a thread that polls the submission queue, \
                  submits the receive and completes it. It works in the memory \
                  of the program, so it can copy into its buffer. The program \
                  goes on computing, but the other thread needs a processor \
                  too.",
    run,
    file: file!(),
};

/// How long the kernel's thread polls an empty queue before it sleeps, in ms.
const IDLE: u32 = 50;

fn run(effort: Effort) -> Result<Finding> {
    let rounds = computing::rounds(effort, round)?;
    let name = "page faults of a thread named iou-*";
    let answer = judge(&rounds);
    Ok(computing::finding_of_two(answer, rounds, Copier::Kernel, name))
}

/// Measures a round, and the page faults of the kernel's thread.
fn round() -> Result<(Round, i64)> {
    let (sender, receiver) = computing::sockets()?;
    let mut buffer = Buffer::new()?;
    let ring = IoUring::builder().setup_sqpoll(IDLE).build(ring::ENTRIES);
    let mut ring = ring::receiving(ring, &receiver, &buffer)?;
    let threads = computing::threads()?;
    let computed = computing::compute(&sender, &buffer, || {
        computing::comes_true(|| ring::is_complete(&mut ring))
    })?;
    let round =
        computed.then_ask(&mut buffer, |_| ring::complete(&mut ring))?;
    let copier = computing::other_copier(&threads)?;
    let kernel = copier.filter(Thread::is_of_kernel);
    Ok((round, kernel.map_or(0, |kernel| kernel.faults)))
}

/// Judges the rounds and the page faults of the kernel's thread in each.
fn judge(rounds: &[(Round, i64)]) -> Answer {
    computing::in_most(rounds, |(round, kernel)| {
        round.copied && computing::is_copy(*kernel)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, elsewhere};

    #[test]
    fn a_copy_by_another_thread_makes_it_false() {
        let by_kernel = (elsewhere(), 31);
        assert_eq!(judge(&[by_kernel; 7]), Answer::True);
        assert_eq!(judge(&[(by_interrupt(), 0); 7]), Answer::False);
        assert_eq!(judge(&[(elsewhere(), 0); 7]), Answer::False);
        let other = (elsewhere(), 0);
        assert_eq!(judge(&[by_kernel, other]), Answer::Undecided);
    }
}
