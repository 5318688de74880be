//! Stopping a program that waits for completions: the signals become a
//! descriptor.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::datagrams::Datagrams;
use crate::operation::Operation;
use crate::ring::Completion;
use crate::uring::Uring;

/// How long the end of the operations is awaited when the program ends.
const PARTING: Duration = Duration::from_millis(100);

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
    /// The first signal stops, as soon as all completions are taken. A second
    /// one is a failure.
    pub fn on_signal(&mut self, completion: &Completion) -> Result<()> {
        while let Some(_signal) = next(&self.signals)? {
            if self.server.drain_until.is_some() {
                bail!("stopped by a second signal");
            }
            let until = self.server.now + self.server.config.drain_timeout;
            self.server.drain_until = Some(until);
            self.stop_asked = true;
        }
        if self.operations.finish(completion).is_some() {
            self.watch_signals();
        }
        Ok(())
    }

    /// Has the kernel tell of the next signal.
    pub fn watch_signals(&mut self) {
        self.operations.start(Operation::Signal, self.signals.as_raw_fd());
    }

    /// No new clients; what was received is answered, every conversation comes
    /// to its end. Not while a completion is left: what it holds would not be
    /// counted.
    pub fn begin_drain(&mut self) {
        if !self.stop_asked || self.operations.ring.has_overflown() {
            return;
        }
        self.stop_asked = false;
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

    /// While stopping: closes those that have all their replies, and the
    /// datagram service.
    pub fn close_acknowledged(&mut self) {
        for client in self.server.acknowledged() {
            self.close(client);
        }
        if self.datagrams.as_ref().is_some_and(Datagrams::is_over) {
            self.datagrams = None;
        }
    }

    /// Ends what is in flight, however the loop has ended. An operation keeps
    /// its socket's address for a moment longer than the process lives, and
    /// whoever starts the next server at once would find it taken.
    pub fn end_operations(&mut self) {
        self.operations.cancel_all();
        let until = Instant::now() + PARTING;
        while !self.operations.is_empty() && Instant::now() < until {
            if self.operations.ring.submit_and_wait(Some(until)).is_err() {
                return;
            }
            while let Some(completion) = self.operations.ring.next() {
                self.operations.finish(&completion);
            }
        }
    }
}
