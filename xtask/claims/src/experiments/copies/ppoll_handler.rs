//! A handler whose signal is blocked except inside ppoll, as in the model for
//! datagrams: it runs in ppoll only.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::poll::ppoll;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::time::TimeValLike as _;

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};
use crate::kit::signals::{self, Receiver};

pub const CLAIM: Claim = Claim {
    id: "copies-ppoll-handler",
    claim: "A handler whose signal only ppoll unblocks never interrupts a \
                program that computes.",
    section: "Signal-driven I/O",
    criterion: "Data arrives while the program computes. True if in all runs \
                the handler has not run when the computation ends, and runs \
                in the next ppoll. False if in all runs it has run before.",
    if_false: History::NeverTrue,
    sources: &["ppoll(2)", "signal(7)"],
    explanation: "ppoll replaces the signal mask for the time of the call, \
                so the handler can run only inside it. Race-free programs \
                need that, but it makes the handler no quicker than poll's \
                return.",
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
    SigSet::from(SIGNAL).thread_block()?;
    let mut unblocked = SigSet::thread_get_mask()?;
    unblocked.remove(SIGNAL);
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    signals::arm(&receiver, SIGNAL as i32, Receiver::ThisThread)?;
    let before = signals::handled();
    let told = || signals::handled() > before;
    computing::observe(&sender, &buffer, told, || {
        let patience = Some(TimeSpec::seconds(10));
        let interrupted = ppoll(&mut [], patience, Some(unblocked));
        ensure!(interrupted == Err(Errno::EINTR), "no handler in ppoll");
        ensure!(signals::handled() == before + 1, "the handler did not run");
        buffer.receive(&receiver)
    })
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| !run.told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_handler_that_runs_earlier_makes_it_false() {
        let (yes, no) = (made_up::when_asked(), made_up::here());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
