//! SIGIO interrupts a thread that computes, and its handler receives the data
//! at once.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::sigio::{self, Owner};
use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-sigio-handler",
    claim: "A handler of SIGIO that calls recv interrupts a program that \
            computes, and copies the data on the program's time.",
    section: "Signal-driven I/O",
    criterion: "A datagram arrives while the thread computes for 100 ms. True \
                if, in more than three quarters of the rounds, the handler has \
                run and the data is in the buffer before the thread makes a \
                call, and this thread had at least half of the copy's page \
                faults meanwhile. False if that is so in at most a quarter of \
                them.",
    if_false: History::NeverTrue,
    sources: &["signal(7)", "signal-safety(7)", "fcntl(2), F_SETOWN_EX"],
    explanation: "The signal makes the kernel interrupt the thread and run the \
                  handler on it. The recv in the handler is a system call like \
                  any other: it copies on the thread that calls it. The \
                  program goes on computing only when the handler has \
                  returned, so the copy is early but not free.",
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
    sigio::receive_in_handler(&receiver, &buffer)?;
    // A signal for the process could interrupt the sender's thread instead.
    sigio::arm(&receiver, Signal::SIGIO as i32, Owner::Thread)?;
    let computed =
        computing::compute(&sender, &buffer, || sigio::handled() > 0)?;
    // No call asks: the handler has received the datagram.
    computed.then_ask(&mut buffer, |_| {
        let handled = sigio::handled();
        ensure!(handled == 1, "{handled} signals for one datagram");
        Ok(())
    })
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, |it| it.told && it.is_copied_by_interrupt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, elsewhere, in_call};

    #[test]
    fn a_copy_later_or_elsewhere_makes_it_false() {
        assert_eq!(judge(&[by_interrupt(); 7]), Answer::True);
        assert_eq!(judge(&[in_call(); 7]), Answer::False);
        assert_eq!(judge(&[elsewhere(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), by_interrupt()]), Answer::Undecided);
    }
}
