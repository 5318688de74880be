//! The order in which pending signals are delivered. A thread has a set of
//! signals for itself, and shares one with the other threads of its process.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getpid;

use super::sigio::{self, Owner};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::computing;

pub const CLAIM: Claim = Claim {
    id: "signals-thread-first",
    claim: "Pending signals for the thread are delivered before those for the \
            process, even those of lower number that were sent earlier.",
    section: "circulates",
    criterion: "The process gets a SIGTERM, and then a socket sends three \
                real-time signals, which have a higher number. True if a \
                signalfd returns SIGTERM last if the three are for the thread, \
                and first if they are for the process, in each round. False if \
                there is no round in which the three for the thread all come \
                before SIGTERM. Undecided otherwise.",
    if_false: History::NeverTrue,
    sources: &["signal(7)", "signalfd(2)", "kernel/signal.c, dequeue_signal"],
    explanation: "The kernel looks at the pending set of the thread first, and \
                  at the set of the process only if the first has nothing to \
                  deliver. Within one set a standard signal comes before a \
                  real-time signal. A server whose sockets signal a thread \
                  therefore reads a SIGTERM for the process after all of them.",
    run,
    file: file!(),
};

/// How many signals the socket sends.
const SENT: usize = 3;

/// How many of the socket's signals came before SIGTERM.
#[derive(Debug)]
struct Round {
    for_thread: usize,
    for_process: usize,
}

fn run(effort: Effort) -> Result<Finding> {
    // Another thread, which does not block it, would receive the SIGTERM.
    let threads = fs::read_dir("/proc/self/task")?.count();
    ensure!(threads == 1, "{threads} threads");
    let rounds = computing::rounds(effort, || {
        let for_thread = before_sigterm(Owner::Thread)?;
        let for_process = before_sigterm(Owner::Process)?;
        Ok(Round { for_thread, for_process })
    })?;
    let sample = |value: fn(&Round) -> usize| {
        computing::sample(&rounds, |round| value(round) as f64)
    };
    let thread = "of three signals for the thread, before SIGTERM";
    let process = "of three signals for the process, before SIGTERM";
    Ok(Finding::new(
        judge(&rounds),
        [
            Figure::new(thread, "", sample(|round| round.for_thread)),
            Figure::new(process, "", sample(|round| round.for_process)),
        ],
    ))
}

/// Sends a SIGTERM to the process, then has a socket send signals to `owner`.
/// Returns how many of these the signalfd returns before the SIGTERM.
fn before_sigterm(owner: Owner) -> Result<usize> {
    let mask = sigio::set_with_queued(SigSet::from(Signal::SIGTERM));
    mask.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&mask, flags)?;
    let (sender, receiver) = computing::sockets()?;
    sigio::arm(&receiver, sigio::queued(), owner)?;
    kill(getpid(), Signal::SIGTERM)?;
    for _ in 0..SENT {
        sender.send(b"x")?;
    }
    let mut order = Vec::new();
    while let Some(signal) = signals.read_signal()? {
        order.push(signal.ssi_signo as i32);
    }
    ensure!(order.len() == SENT + 1, "{} signals are pending", order.len());
    let is_term = |signal: &i32| *signal == Signal::SIGTERM as i32;
    order.iter().position(is_term).context("SIGTERM is not pending")
}

fn judge(rounds: &[Round]) -> Answer {
    let is_first = |round: &Round| round.for_thread == SENT;
    if rounds.iter().all(|round| is_first(round) && round.for_process == 0) {
        Answer::True
    } else if !rounds.iter().any(is_first) {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_sending_or_of_numbers_makes_it_false() {
        let answer = |for_thread, for_process| {
            judge(&[Round { for_thread, for_process }])
        };
        assert_eq!(answer(3, 0), Answer::True);
        assert_eq!(answer(0, 0), Answer::False);
        assert_eq!(answer(1, 0), Answer::False);
        // The owner makes no difference.
        assert_eq!(answer(3, 3), Answer::Undecided);
    }
}
