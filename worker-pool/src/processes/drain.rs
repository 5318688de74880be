//! Graceful shutdown in the parent process, which reads its signals from a
//! signalfd: skip it on a first read.

use std::os::fd::AsRawFd as _;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::socket::{Shutdown, shutdown};

use super::Parent;

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

impl Parent {
    /// Handles the pending signals. SIGCHLD reports that a child has ended. The
    /// first SIGTERM or SIGINT starts the drain. A second one ends the server
    /// at once, as a failure.
    pub fn on_signal(&mut self) -> Result<()> {
        while let Some(info) = next(&self.signals)? {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            if self.drain_until.is_some() {
                self.children.kill(&self.clients);
                bail!("stopped by a second signal");
            }
            self.drain();
        }
        self.children.reap(&self.clients);
        if self.children.lost_datagrams() && self.drain_until.is_none() {
            self.children.kill(&self.clients);
            bail!("the datagram process has died");
        }
        Ok(())
    }

    /// Tells every child to end its conversation, and shuts down the listener.
    ///
    /// A worker that is in accept4 is interrupted by the signal. One that is
    /// about to call it would wait for ever if it were not for the shutdown.
    /// All processes have the same socket, so accept4 returns EINVAL in each.
    /// The shutdown comes second, so that a worker in which accept4 returns has
    /// its signal already.
    fn drain(&mut self) {
        self.children.terminate();
        if let Some(pool) = self.pool.take() {
            let _ = shutdown(pool.listener.as_raw_fd(), Shutdown::Read);
        }
        self.drain_until = Some(Instant::now() + self.drain_timeout);
    }
}
