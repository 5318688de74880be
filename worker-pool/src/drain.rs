//! Graceful shutdown of a program whose threads block in system calls: skip it
//! on a first read.
//!
//! All threads block the signals, and the main thread waits for them in
//! sigwait(3), so no handler interrupts a worker. The main thread then shuts
//! down the receiving side of the sockets, which affects a call that has begun
//! and all later ones: accept(2) returns EINVAL; recvfrom(2) returns the queued
//! datagrams, then nothing. The streams are shut down by `Registry::drain`.
//!
//! Linux does all this; POSIX says only that shutdown(2) disables later
//! receives of a connected socket. On Linux it also wakes a call that waits on
//! a listener, or on a datagram socket without a peer, although for the latter
//! it returns ENOTCONN (net/ipv4/af_inet.c, inet_shutdown). So its result is
//! ignored.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};

use crate::registry::REGISTRY;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Blocks the signals that request shutdown, in this thread and in those that
/// it creates. They stay pending until `wait_for_signal` receives them, even if
/// the parent process has left them ignored (kernel/signal.c, sig_ignored).
pub fn block_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("cannot block signals")?;
    Ok(signals)
}

/// Waits until shutdown is requested. From then on a second signal ends the
/// process at once.
pub fn wait_for_signal(signals: &SigSet) -> Result<()> {
    signals.wait().context("sigwait")?;
    REQUESTED.store(true, Ordering::SeqCst);
    for signal in signals.iter() {
        let action = SigAction::new(
            SigHandler::Handler(on_second_signal),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler makes async-signal-safe calls only.
        unsafe { sigaction(signal, &action) }
            .with_context(|| format!("cannot handle {signal}"))?;
    }
    signals.thread_unblock().context("cannot unblock signals")
}

/// Keeps the drain from touching `stream` any more; returns false if it already
/// has.
pub fn clear_target(stream: BorrowedFd<'_>) -> bool {
    REGISTRY.exempt(stream)
}

/// True once shutdown was requested.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

extern "C" fn on_second_signal(_: i32) {
    // SAFETY: _exit is async-signal-safe and does not return.
    unsafe { libc::_exit(1) }
}
