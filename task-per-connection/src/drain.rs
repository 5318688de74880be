//! Stopping a program whose tasks wait for readiness: the signals become one
//! more descriptor to wait for, and a token tells all tasks at once.

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::unix::AsyncFd;

/// SIGTERM and SIGINT as a descriptor to wait for along with all others. Call
/// it before there are workers: they inherit what is blocked, and the kernel
/// gives a signal to any thread that has not blocked it.
pub fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd")
}

/// Reads the next pending signal, if there is one.
fn next(signals: &SignalFd) -> Result<Option<siginfo>> {
    loop {
        match signals.read_signal() {
            Err(Errno::EINTR) => {}
            signal => return signal.context("signalfd"),
        }
    }
}

/// Waits for the next signal. tokio::signal has a handler that sets a flag, so
/// a second signal that comes before the flag is seen would be lost: here the
/// kernel keeps it.
pub async fn wait_for_signal(signals: &AsyncFd<SignalFd>) -> Result<()> {
    loop {
        let mut ready = signals.readable().await?;
        match next(ready.get_inner())? {
            Some(_signal) => return Ok(()),
            None => ready.clear_ready(),
        }
    }
}
