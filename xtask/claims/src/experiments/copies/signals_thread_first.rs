//! The order in which a signalfd returns pending signals: those sent to the
//! thread before those sent to the process.

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::getpid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::computing;
use crate::kit::signals::{self, Receiver};

pub const CLAIM: Claim = Claim {
    id: "signals-lowest-first",
    claim: "Of several pending signals, the kernel delivers the one with the \
            lowest number first.",
    section: "circulates",
    criterion: "SIGTERM is sent to the process, then a socket sends three \
                real-time signals, whose numbers are higher. True if SIGTERM \
                is read first, whether the others go to the process or to the \
                thread. False if it is never read first. It depends if only \
                one of the two puts SIGTERM first.",
    if_false: History::NeverTrue,
    sources: &["signal(7)", "kernel/signal.c, dequeue_signal"],
    explanation: "The kernel looks at the signals sent to the thread first, \
                  and at those sent to the whole process afterwards; the \
                  number decides only within one of the two sets. A server \
                  that receives its sockets' signals and SIGTERM through one \
                  signalfd would never stop while clients are busy.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let process = place_of_sigterm(Receiver::TheProcess)?;
    let thread = place_of_sigterm(Receiver::ThisThread)?;
    Ok(Finding::new(
        judge(process, thread),
        [
            Figure::new("place of SIGTERM, others to the thread", "", thread),
            Figure::new("place of SIGTERM, others to the process", "", process),
        ],
    ))
}

/// Sends four signals, and returns at which place SIGTERM is read, from 1. No
/// other thread may run, because it would take the SIGTERM.
fn place_of_sigterm(receiver: Receiver) -> Result<usize> {
    let queued = libc::SIGRTMIN();
    let mut mask = *SigSet::from(Signal::SIGTERM).as_ref();
    // SAFETY: a valid set and a valid signal.
    unsafe { libc::sigaddset(&mut mask, queued) };
    // SAFETY: the set was initialized above.
    let mask = unsafe { SigSet::from_sigset_t_unchecked(mask) };
    mask.thread_block()?;
    let signals = SignalFd::new(&mask)?;
    let (sender, socket) = computing::pair()?;
    signals::arm(&socket, queued, receiver)?;
    kill(getpid(), Signal::SIGTERM)?;
    for _ in 0..3 {
        sender.send(b"x")?;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let signal = signals.read_signal()?.context("a signal is missing")?;
        order.push(signal.ssi_signo);
    }
    let term = order.iter().position(|it| *it == Signal::SIGTERM as u32);
    Ok(term.context("SIGTERM is missing")? + 1)
}

/// Judges the places of SIGTERM beside signals to the process and to the
/// thread.
fn judge(process: usize, thread: usize) -> Answer {
    match (process == 1, thread == 1) {
        (true, true) => Answer::True,
        (false, false) => Answer::False,
        _ => Answer::Depends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_if_the_receiver_decides() {
        assert_eq!(judge(1, 1), Answer::True);
        assert_eq!(judge(4, 4), Answer::False);
        assert_eq!(judge(1, 4), Answer::Depends);
    }
}
