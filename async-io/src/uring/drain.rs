//! Graceful shutdown, the same policy in every model: skip it on a first read.
//! The signals are read from a descriptor, which an operation polls.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use super::Uring;
use super::datagrams::Datagrams;
use super::operation::Operation;
use super::ring::Completion;

/// How long to wait for cancelled operations before the process ends.
const CANCEL_WAIT: Duration = Duration::from_millis(100);

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

impl Uring<'_> {
    /// Requests the drain on the first signal; it begins once all completions
    /// have been reaped. A second signal ends the server at once, as a failure.
    pub fn on_signal(&mut self, completion: &Completion) -> Result<()> {
        while let Some(_signal) = next(&self.signals)? {
            if self.server.drain_until.is_some() {
                bail!("stopped by a second signal");
            }
            let until = self.server.now + self.server.config.drain_timeout;
            self.server.drain_until = Some(until);
            self.drain_requested = true;
        }
        if self.operations.take_if_last(completion).is_some() {
            self.watch_signals();
        }
        Ok(())
    }

    /// Arms the poll for the next signal.
    pub fn watch_signals(&mut self) {
        self.operations.start(Operation::Signal, self.signals.as_raw_fd());
    }

    /// Begins the drain, if it was requested: no connection is accepted any
    /// more, what has arrived is answered, and each conversation ends. This
    /// waits until all completions have been reaped, because bytes in a
    /// completion would be missing in the count of unread bytes.
    pub fn begin_drain(&mut self) {
        if !self.drain_requested || self.operations.ring.has_overflown() {
            return;
        }
        self.drain_requested = false;
        match self.accepting {
            Some(key) => self.operations.cancel(key),
            None => self.listener = None,
        }
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.begin_drain();
        }
        let clients: Vec<_> = self.server.connections.keys().collect();
        for client in clients {
            let outcome = self.server.connections[client].begin_drain();
            self.apply_outcome(client, outcome);
        }
    }

    /// During the drain, closes the connections whose replies are all
    /// acknowledged, and the datagram service once it is over.
    pub fn close_acknowledged(&mut self) {
        for client in self.server.acknowledged() {
            self.close(client);
        }
        if self.datagrams.as_ref().is_some_and(Datagrams::is_over) {
            self.datagrams = None;
        }
    }

    /// Cancels all operations, however the loop has ended, and waits for their
    /// completions. An operation in flight keeps its socket open for a moment
    /// after the process has ended, and a server started at once would fail to
    /// bind the address (EADDRINUSE).
    pub fn end_operations(&mut self) {
        self.operations.cancel_all();
        let until = Instant::now() + CANCEL_WAIT;
        while !self.operations.is_empty() && Instant::now() < until {
            if self.operations.ring.submit_and_wait(Some(until)).is_err() {
                return;
            }
            while let Some(completion) = self.operations.ring.next() {
                self.operations.take_if_last(&completion);
            }
        }
    }
}
