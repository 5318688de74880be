//! The classic model: a handler receives the data when SIGIO comes.

use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicPtr};

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};
use crate::kit::signals::{self, Receiver};

pub const CLAIM: Claim = Claim {
    id: "copies-sigio-handler",
    claim: "A SIGIO handler receives while the program computes, and the \
                copy costs the program's own time.",
    section: "Signal-driven I/O",
    criterion: "Data arrives while the program computes. True if in all runs \
                the handler has run and the buffer is filled before the \
                program asks, with the page faults on the program's thread. \
                False if that is so in no run.",
    if_false: History::NeverTrue,
    sources: &["signal(7)", "signal-safety(7)"],
    explanation: "A signal that is not blocked interrupts the thread \
                wherever it is, and the handler's recv copies there and \
                then. The program does not ask, but it pays: the copy runs \
                on its thread. This is the only model in the notes in which \
                a computing program makes progress with its input by itself.",
    run,
    file: file!(),
};

/// The handler's socket and buffer, because a handler has no such arguments.
static SOCKET: AtomicI32 = AtomicI32::new(-1);
static BUFFER: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

extern "C" fn receive(signal: i32) {
    let socket: RawFd = SOCKET.load(SeqCst);
    let buffer = BUFFER.load(SeqCst).cast();
    // SAFETY: recv is async-signal-safe; the buffer has LENGTH bytes and is
    // never unmapped.
    unsafe { libc::recv(socket, buffer, computing::LENGTH, 0) };
    signals::count(signal);
}

fn run(effort: Effort) -> Result<Finding> {
    let runs = (0..effort.pick(7, 2)).map(|_| observe());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    Ok(Finding::new(judge(&runs), computing::figures(&runs)))
}

fn observe() -> Result<Observation> {
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    SOCKET.store(receiver.as_raw_fd(), SeqCst);
    BUFFER.store(buffer.as_mut_ptr(), SeqCst);
    signals::handle(Signal::SIGIO, receive)?;
    signals::arm(&receiver, Signal::SIGIO as i32, Receiver::ThisThread)?;
    let before = signals::handled();
    let told = || signals::handled() > before;
    // The program does not ask: the handler has received already.
    computing::observe(&sender, &buffer, told, || Ok(()))
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| run.told && run.copied_here())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_copy_elsewhere_makes_it_false() {
        let (yes, no) = (made_up::here(), made_up::elsewhere());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
