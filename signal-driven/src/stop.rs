//! Stopping a program that waits for descriptors: the signals become one, apart
//! from the signals of sockets.

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::{READABLE, Server};

/// SIGTERM and SIGINT as a descriptor to wait for along with all others: no
/// handler, and no moment between a check and a wait.
pub fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd")
}

/// The next signal that has arrived, if any.
fn next(signals: &SignalFd) -> Result<Option<siginfo>> {
    loop {
        match signals.read_signal() {
            Err(Errno::EINTR) => {}
            signal => return signal.context("signalfd"),
        }
    }
}

impl Server<'_> {
    /// The first signal stops: no newcomers, what was received is answered,
    /// every conversation comes to its end. A second one is a failure.
    pub fn on_signal(&mut self) -> Result<()> {
        while let Some(_signal) = next(&self.signals)? {
            if self.drain_until.is_some() {
                bail!("stopped by a second signal");
            }
            self.drain_until = Some(self.now + self.config.drain_timeout);
            self.listener = None;
            self.newcomers = false;
            if let Some(mut datagrams) = self.datagrams.take() {
                datagrams.answer_queued(&mut self.about);
            }
            let keys: Vec<_> = self.connections.keys().collect();
            for key in keys {
                match self.connections[key].stop() {
                    Ok(()) => self.visit(key, READABLE),
                    Err(errno) => self.fail(key, errno),
                }
            }
        }
        Ok(())
    }

    /// While stopping: closes those that have all their replies.
    pub fn close_delivered(&mut self) {
        if self.drain_until.is_none() {
            return;
        }
        let delivered: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_delivered())
            .map(|(key, _)| key)
            .collect();
        for key in delivered {
            self.close(key);
        }
    }
}
