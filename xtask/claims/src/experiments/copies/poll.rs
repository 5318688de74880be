//! Data arrives while a thread computes between two calls of poll. Nothing
//! tells the thread, and the copy takes its time, when it asks.

use std::hint::black_box;
use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-poll",
    claim: "With poll, the program does not learn of data while it computes, \
            and the copy takes the time of the thread that calls recv.",
    section: "Comparison of the five models",
    criterion: "A datagram arrives while the thread computes for 100 ms after \
                a poll that found nothing. True if, in more than three \
                quarters of the rounds, nothing has changed in the array of \
                that poll, the data is not in the buffer, and the recv that \
                follows the next poll has at least half of the copy's page \
                faults on this thread. False if that is so in at most a \
                quarter of them.",
    if_false: History::NeverTrue,
    sources: &["poll(2)", "recv(2)"],
    explanation: "The kernel writes to the array of a poll only during the \
                  call. A program that computes must call again to learn of \
                  the data. The copy is a part of recv, so the thread does \
                  nothing else meanwhile: in this sense poll is synchronous.",
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
    let mut asked = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut asked, PollTimeout::ZERO)?;
    ensure!(ready == 0, "poll reported data that was not sent");
    // From here on the compiler must expect that the kernel writes to the
    // array.
    let asked = black_box(&mut asked);
    let computed =
        computing::compute(&sender, &buffer, || asked[0].any() != Some(false))?;
    computed.then_ask(&mut buffer, |buffer| {
        let ready = poll(asked, PollTimeout::ZERO)?;
        ensure!(ready == 1, "poll did not report the datagram");
        buffer.receive(&receiver)
    })
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, |it| !it.told && it.is_copied_in_call())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{elsewhere, in_call};

    #[test]
    fn news_or_a_copy_while_it_computes_makes_it_false() {
        let told = Round { told: true, ..in_call() };
        assert_eq!(judge(&[in_call(); 7]), Answer::True);
        assert_eq!(judge(&[told; 7]), Answer::False);
        assert_eq!(judge(&[elsewhere(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), told]), Answer::Undecided);
    }
}
