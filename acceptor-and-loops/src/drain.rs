//! Graceful shutdown of several loops: skip it on a first read. The acceptor
//! receives the signals and closes the queues. In `processes` it closes its
//! ends of the pairs, so each loop gets end of file after its last client. A
//! loop at the end of its queue drains. The main thread, or the parent process,
//! waits until the last has ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::acceptor::Acceptor;
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
pub fn next(signals: &SignalFd) -> Result<Option<siginfo>> {
    loop {
        match signals.read_signal() {
            Err(Errno::EINTR) => {}
            signal => return signal.context("signalfd"),
        }
    }
}

/// The main thread of `threads`, which accepts and supervises the loops.
pub struct Supervisor {
    acceptor: Acceptor,
    running: usize,
    /// Results of loops that have ended. The sender wakes the main thread.
    results: Receiver<Result<usize>>,
    result_sender: Sender<Result<usize>>,
}

impl Supervisor {
    pub fn new(acceptor: Acceptor) -> Self {
        let (result_sender, results) = channel();
        Self { acceptor, running: 0, results, result_sender }
    }

    /// Starts a loop on a thread of its own. `work` returns how many
    /// connections were left after the drain.
    pub fn start(
        &mut self,
        number: usize,
        work: impl FnOnce() -> Result<usize> + Send + 'static,
    ) -> Result<()> {
        let results = self.result_sender.clone();
        let shared = self.acceptor.shared;
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(anyhow!("panicked")))
                .with_context(|| format!("loop {number}"));
            // Neither fails while the main thread exists. It ends the process
            // when it returns.
            let _ = results.send(result);
            shared.wake_acceptor();
        };
        thread::Builder::new()
            .name(format!("loop {number}"))
            .spawn(run)
            .with_context(|| {
                format!(
                    "cannot create a thread for loop {number} (ulimit -u, \
                     ulimit -v)"
                )
            })?;
        self.running += 1;
        Ok(())
    }

    /// Accepts until all loops have ended. The first signal starts their drain.
    /// A second signal ends the server at once, as a failure. So does an error
    /// or a panic of a loop, because otherwise the server would go on with one
    /// loop less.
    pub fn wait(mut self) -> Result<()> {
        let mut stopping = false;
        let mut cut_off = 0;
        while self.running > 0 {
            let signals = self.acceptor.wait(None)?;
            while signals && next(&self.acceptor.signals)?.is_some() {
                if stopping {
                    bail!("stopped by a second signal");
                }
                stopping = true;
                self.acceptor.stop()?;
            }
            for clients in self.results.try_iter() {
                cut_off += clients?;
                self.running -= 1;
            }
            self.acceptor.accept_pending()?;
        }
        common::report_cut_off(cut_off);
        Ok(())
    }
}

impl Server<'_> {
    /// Begins the drain, when all clients have been taken from the queue: what
    /// has arrived is answered, and each conversation ends.
    pub fn begin_drain(&mut self) {
        self.drain_until = Some(self.now + self.config.drain_timeout);
        self.inbox = None;
        self.new_clients_at = None;
        self.on_datagrams();
        self.datagrams = None;
        self.datagrams_at = None;
        let keys: Vec<_> = self.connections.keys().collect();
        for key in keys {
            match self.connections[key].begin_drain() {
                Ok(()) => self.handle_event(key, READABLE),
                Err(errno) => self.fail(key, errno),
            }
        }
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
