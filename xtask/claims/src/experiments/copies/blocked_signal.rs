//! Signal-driven I/O with a signal that is blocked and read from a signalfd.
//! The signal waits until the program reads it.

use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::sigio::{self, Owner};
use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-blocked-signal",
    claim: "With signal-driven I/O, the signal reaches the program while it \
            computes, also if it is blocked and read from a signalfd.",
    section: "Signal-driven I/O",
    criterion: "A datagram arrives while the thread computes for 100 ms with \
                the signal blocked. True if the signal's handler has run, or \
                the data is in the buffer, before the thread makes a call, in \
                more than three quarters of the rounds. False if that is so in \
                at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["signal(7)", "signalfd(2)", "fcntl(2), F_SETSIG"],
    explanation: "A blocked signal stays pending in the kernel and interrupts \
                  nothing. The program learns of the data when it reads the \
                  signalfd, and the recv after that makes the copy. Such a \
                  program asks at a time of its choice, as with epoll.",
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
    sigio::count_in_handler()?;
    let blocked = sigio::set_with_queued(SigSet::empty());
    blocked.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&blocked, flags)?;
    sigio::arm(&receiver, sigio::queued(), Owner::Thread)?;
    let computed =
        computing::compute(&sender, &buffer, || sigio::handled() > 0)?;
    computed.then_ask(&mut buffer, |buffer| {
        let signal = signals.read_signal()?.context("no signal is pending")?;
        let is_ours = signal.ssi_fd == receiver.as_raw_fd();
        ensure!(is_ours, "the signal is for another descriptor");
        buffer.receive(&receiver)
    })
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, |round| round.told || round.copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, in_call};

    #[test]
    fn a_signal_that_waits_makes_it_false() {
        let told = Round { told: true, ..in_call() };
        assert_eq!(judge(&[told; 7]), Answer::True);
        assert_eq!(judge(&[by_interrupt(); 7]), Answer::True);
        assert_eq!(judge(&[in_call(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), told]), Answer::Undecided);
    }
}
