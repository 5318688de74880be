//! Signals that a socket sends (fcntl(2), "Managing signals").

use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::unistd::{getpid, gettid};

/// Commands of fcntl(2) that libc lacks on some platforms: the number of the
/// signal, and its receiver.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// The receiver of a socket's signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    ThisThread,
    TheProcess,
}

/// Makes a socket send a signal when data arrives.
pub fn arm(socket: &impl AsFd, signal: i32, receiver: Receiver) -> Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // `struct f_owner_ex`: F_OWNER_TID is 0, F_OWNER_PID is 1.
    let owner: [i32; 2] = match receiver {
        Receiver::ThisThread => [0, gettid().as_raw()],
        Receiver::TheProcess => [1, getpid().as_raw()],
    };
    // SAFETY: F_SETOWN_EX reads a `struct f_owner_ex`, which is two numbers.
    let owned = unsafe { libc::fcntl(fd, F_SETOWN_EX, &owner) };
    Errno::result(owned).context("F_SETOWN_EX")?;
    // SAFETY: F_SETSIG takes a number.
    let set = unsafe { libc::fcntl(fd, F_SETSIG, signal) };
    Errno::result(set).context("F_SETSIG")?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_ASYNC;
    fcntl(socket, FcntlArg::F_SETFL(flags)).context("O_ASYNC")?;
    Ok(())
}

/// The number of signals that `count` has handled.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

/// Handles a signal by counting it.
pub extern "C" fn count(_signal: i32) {
    HANDLED.fetch_add(1, SeqCst);
}

/// Returns how often `count` has run.
pub fn handled() -> usize {
    HANDLED.load(SeqCst)
}

/// Installs a handler, which must be async-signal-safe (signal-safety(7)).
pub fn handle(signal: Signal, handler: extern "C" fn(i32)) -> Result<()> {
    let handler = SigHandler::Handler(handler);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers of this crate are async-signal-safe.
    unsafe { sigaction(signal, &action) }.context("sigaction")?;
    Ok(())
}
