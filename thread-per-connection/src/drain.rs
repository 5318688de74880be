//! Graceful shutdown of a program whose threads block in system calls: skip it
//! on a first read.
//!
//! A flag that the signal handler sets is not enough: the signal may arrive
//! after the check of the flag and before the call that waits. So the handler
//! also shuts down the receiving side of the socket, which affects a call that
//! has begun and all later ones: accept(2) returns EINVAL; recvfrom(2) returns
//! the queued datagrams, then nothing. The streams are shut down by
//! `Registry::drain`.
//!
//! Linux does all this; POSIX says only that shutdown(2) disables later
//! receives of a connected socket. On Linux it also wakes a call that waits on
//! a listener, or on a datagram socket without a peer, although for the latter
//! it returns ENOTCONN (net/ipv4/af_inet.c, inet_shutdown). So its result is
//! ignored here.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::sys::socket::{Shutdown, shutdown};

use crate::registry::REGISTRY;

static LISTENER: AtomicI32 = AtomicI32::new(-1);
static DATAGRAMS: AtomicI32 = AtomicI32::new(-1);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Installs the signal handler. SIGTERM and SIGINT request shutdown and wake
/// the calls that wait on these sockets; a second one ends the process at once.
pub fn install(
    listener: Option<&OwnedFd>,
    datagrams: Option<&OwnedFd>,
) -> Result<()> {
    for (place, socket) in [(&LISTENER, listener), (&DATAGRAMS, datagrams)] {
        if let Some(socket) = socket {
            place.store(socket.as_raw_fd(), Ordering::SeqCst);
        }
    }
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // No SA_RESTART, so that an interrupted call returns EINTR.
        let action = SigAction::new(
            SigHandler::Handler(on_signal),
            SaFlags::empty(),
            SigSet::all(),
        );
        // SAFETY: the handler makes async-signal-safe calls only.
        unsafe { sigaction(signal, &action) }
            .with_context(|| format!("cannot handle {signal}"))?;
        signals.add(signal);
    }
    // The parent process may have left them blocked; exec(2) keeps the mask.
    signals.thread_unblock().context("cannot unblock signals")
}

/// Exempts `stream` from the drain's shutdown. Returns false if shutdown was
/// requested already.
pub fn clear_target(stream: BorrowedFd<'_>) -> bool {
    REGISTRY.exempt(stream);
    !requested()
}

/// True once shutdown was requested.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Runs on any thread. Both sockets stay open until shutdown is requested, and
/// no descriptor is opened after that, so their numbers have not been reused.
extern "C" fn on_signal(_: i32) {
    let errno = Errno::last_raw();
    if REQUESTED.swap(true, Ordering::SeqCst) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(1) }
    }
    let _ = shutdown(LISTENER.load(Ordering::SeqCst), Shutdown::Read);
    let _ = shutdown(DATAGRAMS.load(Ordering::SeqCst), Shutdown::Read);
    Errno::set_raw(errno);
}
