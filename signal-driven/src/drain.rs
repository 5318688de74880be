//! Graceful shutdown, the same policy in every model: skip it on a first read.
//! The signals are read from a descriptor, apart from the signals of sockets.

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::{READABLE, Server};

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
            self.new_clients = false;
            if let Some(mut datagrams) = self.datagrams.take() {
                datagrams.answer_queued(&mut self.about);
            }
            let keys: Vec<_> = self.connections.keys().collect();
            for key in keys {
                match self.connections[key].begin_drain() {
                    Ok(()) => self.handle_event(key, READABLE),
                    Err(errno) => self.fail(key, errno),
                }
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
