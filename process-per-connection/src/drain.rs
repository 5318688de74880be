//! Stopping: the parent is told by a descriptor, a child by a handler.

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

/// The socket on which a child's call waits, or will wait next; -1 for none
/// that a stop may touch.
static WAITED_ON: AtomicI32 = AtomicI32::new(-1);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From here on the parent's signals wait until they are read.
pub fn signals() -> Result<SignalFd> {
    // Whoever started the program may have left SIGCHLD ignored, which exec(2)
    // does not change: children would be reaped behind our back.
    let default =
        SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no handler.
    unsafe { sigaction(Signal::SIGCHLD, &default) }
        .context("cannot reset SIGCHLD")?;
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

/// A child inherits the parent's blocked signals, so one that was sent before
/// this moment is delivered now, and none is lost.
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

/// A stop is to wake the calls that wait on `socket`, the one that this child
/// serves.
pub fn set_target(socket: BorrowedFd<'_>) {
    WAITED_ON.store(socket.as_raw_fd(), Ordering::SeqCst);
    if requested() {
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
    }
}

/// Keeps the signal handler from touching `stream` any more; returns false if
/// it already has.
pub fn clear_target(_stream: BorrowedFd<'_>) -> bool {
    WAITED_ON.store(-1, Ordering::SeqCst);
    !requested()
}

/// True once a stop was asked for, in a child.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// A socket whose receiving side is shut down stays so: recv(2) returns what
/// is there and otherwise end of file, recvfrom(2) the queued datagrams and
/// otherwise nothing, whether the call had begun or begins later. That is
/// Linux; POSIX says only that shutdown(2) disables later receives of a
/// connected socket. The datagram socket has no peer, so shutdown(2) returns
/// ENOTCONN for it, and wakes the call all the same (net/ipv4/af_inet.c,
/// inet_shutdown). A terminal sends SIGINT to the child too, so a second signal
/// means nothing: the parent ends those who take too long.
extern "C" fn on_signal(_: i32) {
    let errno = Errno::last_raw();
    REQUESTED.store(true, Ordering::SeqCst);
    let _ = shutdown(WAITED_ON.load(Ordering::SeqCst), Shutdown::Read);
    Errno::set_raw(errno);
}

impl Parent<'_> {
    /// SIGCHLD: somebody has left. Of the others the first stops: no
    /// new clients, and every child ends its conversation. A second one is a
    /// failure.
    pub fn on_signal(&mut self) -> Result<()> {
        while let Some(info) = next(&self.signals)? {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                // A place is free again.
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
            bail!("the process that serves datagrams has died");
        }
        Ok(())
    }
}
