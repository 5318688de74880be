//! Graceful shutdown, the same policy in every model: skip it on a first read.
//! The signals are read from a descriptor.

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::Server;
use crate::kind::Kind;

/// Turns SIGTERM and SIGINT into a descriptor that is waited for like a socket.
/// So there is no signal handler, and no race between a check and a wait.
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

impl Server<'_> {
    /// The first signal starts the drain: no connection is accepted any more,
    /// what has arrived is answered, and each conversation ends. A second
    /// signal ends the server at once, as a failure.
    pub fn on_signal(&mut self) -> Result<()> {
        while let Some(_signal) = next(&self.signals)? {
            if self.drain_until.is_some() {
                bail!("stopped by a second signal");
            }
            self.drain_until = Some(self.now + self.config.drain_timeout);
            self.listener = None;
            self.on_datagrams();
            self.datagrams = None;
            let keys: Vec<_> = self.connections.keys().collect();
            for key in keys {
                let connection = &mut self.connections[key];
                // In `io` the worker that has it counts what is left, once it
                // no longer receives.
                if self.kind == Kind::Io && connection.is_lent() {
                    continue;
                }
                // The next wait reports the input that has arrived.
                let outcome = connection
                    .begin_drain()
                    .and_then(|()| connection.flush_and_advance());
                self.apply_outcome(key, outcome);
            }
        }
        Ok(())
    }

    /// During the drain, closes the connections whose replies are all
    /// acknowledged.
    pub fn close_acknowledged(&mut self) {
        if self.drain_until.is_none() {
            return;
        }
        let acknowledged: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_acknowledged())
            .map(|(key, _)| key)
            .collect();
        for key in acknowledged {
            self.close(key);
        }
    }
}
