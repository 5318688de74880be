//! Graceful shutdown: skip it on a first read. The parent reads its signals
//! from a signalfd, a child has a signal handler.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::socket::{Shutdown, shutdown};

use crate::Parent;

/// The socket that a child's signal handler shuts down: the one on which a call
/// waits or will wait next. -1 if it must not touch any.
static TARGET: AtomicI32 = AtomicI32::new(-1);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Blocks the parent's signals and returns the signalfd that they are read
/// from.
pub fn signals() -> Result<SignalFd> {
    // The process that started the server may have left SIGCHLD ignored, which
    // exec(2) keeps. The kernel would then reap the children itself, and
    // waitpid would find none.
    let default =
        SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no handler.
    unsafe { sigaction(Signal::SIGCHLD, &default) }
        .context("cannot restore the default action of SIGCHLD")?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
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

/// Keeps the signal handler from touching `stream` any more; returns false if
/// it already has.
pub fn clear_target(_stream: BorrowedFd<'_>) -> bool {
    TARGET.store(-1, Ordering::SeqCst);
    !requested()
}

/// True in a child once shutdown was requested.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
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

impl Parent<'_> {
    /// Handles the pending signals. SIGCHLD reports that a child has ended. The
    /// first SIGTERM or SIGINT starts the drain: no connection is accepted any
    /// more, and every child ends its conversation. A second one ends the
    /// server at once, as a failure.
    pub fn on_signal(&mut self) -> Result<()> {
        while let Some(info) = next(&self.signals)? {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                // An ended child has released resources.
                self.paused_until = None;
                continue;
            }
            if self.drain_until.is_some() {
                self.children.kill();
                bail!("stopped by a second signal");
            }
            self.listener = None;
            self.children.terminate();
            self.drain_until = Some(Instant::now() + self.config.drain_timeout);
        }
        self.children.reap();
        if self.children.lost_datagrams() && self.drain_until.is_none() {
            self.children.kill();
            bail!("the datagram process has died");
        }
        Ok(())
    }
}
