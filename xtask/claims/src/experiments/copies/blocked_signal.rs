//! A queued signal, as real-time signals are used: blocked, and read from a
//! signalfd. It waits until it is read.

use anyhow::{Result, ensure};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};
use crate::kit::signals::{self, Receiver};

pub const CLAIM: Claim = Claim {
    id: "copies-blocked-signal",
    claim: "A signal that is queued for a socket interrupts the program when \
                data arrives.",
    section: "Signal-driven I/O",
    criterion: "Data arrives while the program computes, and its signal is \
                blocked, as a queue of signals requires. True if in all runs \
                a handler runs meanwhile. False if none runs, and the signal \
                is read from the queue afterwards.",
    if_false: History::NeverTrue,
    sources: &["fcntl(2), Managing signals", "signalfd(2)", "signal(7)"],
    explanation: "A program that collects signals with signalfd or \
                sigwaitinfo keeps them blocked, so they stay pending while \
                it computes. It learns of the data when it asks, as with \
                epoll, and recv copies on its own thread.",
    run,
    file: file!(),
};

const SIGNAL: Signal = Signal::SIGUSR1;

fn run(effort: Effort) -> Result<Finding> {
    let runs = (0..effort.pick(7, 2)).map(|_| observe());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    Ok(Finding::new(judge(&runs), computing::figures(&runs)))
}

fn observe() -> Result<Observation> {
    signals::handle(SIGNAL, signals::count)?;
    let mask = SigSet::from(SIGNAL);
    mask.thread_block()?;
    let queue = SignalFd::new(&mask)?;
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    signals::arm(&receiver, SIGNAL as i32, Receiver::ThisThread)?;
    let before = signals::handled();
    let told = || signals::handled() > before;
    computing::observe(&sender, &buffer, told, || {
        let queued = queue.read_signal()?;
        ensure!(queued.is_some(), "no signal is queued");
        buffer.receive(&receiver)
    })
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| run.told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_handler_that_runs_makes_it_true() {
        let (yes, no) = (made_up::here(), made_up::when_asked());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
