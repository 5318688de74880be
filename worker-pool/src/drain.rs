//! Graceful shutdown of workers that block in system calls: skip it on a first
//! read. The main thread wakes workers that are threads; a signal handler wakes
//! a worker that is a process.
//!
//! Clients that a worker has, or that wait in the queue of `queue`, get replies
//! to what has arrived. Connections in the accept queue are reset when the
//! listener is shut down, and one that accept4 returns at that moment is
//! closed.
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
//!
//! The parent of `processes` sends SIGTERM to its workers and shuts down the
//! listener (`processes/drain.rs`). A worker's handler, `on_signal` below,
//! shuts down the socket of its client.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::sys::socket::{Shutdown, shutdown};

use crate::registry::REGISTRY;

/// The socket that a child's signal handler shuts down: the one on which a call
/// waits or will wait next. -1 if it must not touch any.
static TARGET: AtomicI32 = AtomicI32::new(-1);
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
    // In a worker process, the handler's target is this stream. In a server of
    // threads there is no target, and the registry has an entry for the stream.
    if TARGET.swap(-1, Ordering::SeqCst) == stream.as_raw_fd() {
        return !requested();
    }
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

/// Installs a child's signal handler. The child inherits the parent's signal
/// mask, so a signal that was sent to it since the fork is delivered now.
pub fn install() -> nix::Result<()> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // No SA_RESTART, so that an interrupted call returns EINTR.
        let action = SigAction::new(
            SigHandler::Handler(on_signal),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler makes async-signal-safe calls only.
        unsafe { sigaction(signal, &action) }?;
        mask.add(signal);
    }
    mask.thread_unblock()
}

/// Makes `socket` the one that this child's signal handler shuts down.
pub fn set_target(socket: BorrowedFd<'_>) {
    TARGET.store(socket.as_raw_fd(), Ordering::SeqCst);
    if requested() {
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
    }
}

/// Shuts down the receiving side of the child's socket, which affects a call
/// that has begun and all later ones: recv(2) returns what has arrived, then
/// end of file; recvfrom(2) returns the queued datagrams, then nothing.
///
/// Linux does this; POSIX says only that shutdown(2) disables later receives of
/// a connected socket. The datagram socket has no peer, so shutdown(2) returns
/// ENOTCONN for it, but wakes the call all the same (net/ipv4/af_inet.c,
/// inet_shutdown).
///
/// A second signal has no effect, because a terminal sends SIGINT to the child
/// as well as to the parent. The parent kills the children when the drain
/// timeout ends.
extern "C" fn on_signal(_: i32) {
    let errno = Errno::last_raw();
    REQUESTED.store(true, Ordering::SeqCst);
    let _ = shutdown(TARGET.load(Ordering::SeqCst), Shutdown::Read);
    Errno::set_raw(errno);
}
