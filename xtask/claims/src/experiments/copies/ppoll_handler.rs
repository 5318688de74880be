//! Signal-driven I/O with a signal that only ppoll unblocks. The handler runs
//! in ppoll, at a place that the program chooses.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::poll::ppoll;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::{TimeSpec, TimeValLike as _};

use super::sigio::{self, Owner};
use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-ppoll-handler",
    claim: "A handler whose signal only ppoll unblocks does not interrupt the \
            program elsewhere, and copies the data during ppoll.",
    section: "circulates",
    criterion: "A datagram arrives while the thread computes for 100 ms with \
                SIGIO blocked, and ppoll unblocks it afterwards. True if, in \
                more than three quarters of the rounds, the handler has not \
                run and the data is not in the buffer before ppoll, and ppoll \
                has at least half of the copy's page faults on this thread. \
                False if that is so in at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["ppoll(2)", "signal(7)"],
    explanation: "The signal stays pending while it is blocked. ppoll installs \
                  its signal mask before it waits, so the pending signal makes \
                  it return with EINTR, and the handler runs on the way out. \
                  The handler needs no care for the code that it interrupts, \
                  because this code is always the call of ppoll.",
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
    SigSet::from(Signal::SIGIO).thread_block()?;
    let mut unblocked = SigSet::thread_get_mask()?;
    unblocked.remove(Signal::SIGIO);
    sigio::arm(&receiver, Signal::SIGIO as i32, Owner::Thread)?;
    let computed =
        computing::compute(&sender, &buffer, || sigio::handled() > 0)?;
    computed.then_ask(&mut buffer, |_| {
        let interrupted =
            ppoll(&mut [], Some(TimeSpec::seconds(1)), Some(unblocked));
        ensure!(interrupted == Err(Errno::EINTR), "ppoll: {interrupted:?}");
        ensure!(sigio::handled() == 1, "the handler did not run");
        Ok(())
    })
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, |it| !it.told && it.is_copied_in_call())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, in_call};

    #[test]
    fn a_handler_that_runs_elsewhere_makes_it_false() {
        let told = Round { told: true, ..in_call() };
        assert_eq!(judge(&[in_call(); 7]), Answer::True);
        assert_eq!(judge(&[told; 7]), Answer::False);
        assert_eq!(judge(&[by_interrupt(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), told]), Answer::Undecided);
    }
}
