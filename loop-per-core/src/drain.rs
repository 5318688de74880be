//! Graceful shutdown of several loops: skip it on a first read. The main thread
//! receives the signals, wakes the loops, and waits until the last has ended.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use mio::unix::SourceFd;
use mio::{Events, Poll, Token, Waker};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::socket::{Shutdown, shutdown};

use crate::{READABLE, Server, wait};

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

/// The tokens of the main thread's descriptors.
const SIGNALS: Token = Token(0);
const ENDED: Token = Token(1);

/// The supervisor, on the main thread. It has no clients, so however busy they
/// are, it notices a signal and the end of a loop.
pub struct Supervisor {
    poll: Poll,
    signals: SignalFd,
    /// One waker per loop, to request the drain.
    wake_loops: Vec<Waker>,
    /// Results of loops that have ended. The sender wakes the main thread.
    results: Receiver<Result<usize>>,
    result_sender: Sender<Result<usize>>,
    wake_main: Arc<Waker>,
}

impl Supervisor {
    /// Blocks the signals. Call it before there is a second thread, because
    /// threads inherit the mask.
    pub fn new() -> Result<Self> {
        let signals = signals()?;
        let poll = Poll::new().context("epoll_create1")?;
        let mut source = SourceFd(&signals.as_raw_fd());
        poll.registry()
            .register(&mut source, SIGNALS, READABLE)
            .context("epoll_ctl")?;
        let wake_main =
            Waker::new(poll.registry(), ENDED).context("eventfd")?;
        let (result_sender, results) = channel();
        Ok(Self {
            poll,
            signals,
            wake_loops: Vec::new(),
            results,
            result_sender,
            wake_main: Arc::new(wake_main),
        })
    }

    /// Starts a loop on a thread of its own. `shutdown` wakes it to drain;
    /// `work` returns how many connections were left after the drain.
    pub fn start(
        &mut self,
        number: u32,
        shutdown: Waker,
        work: impl FnOnce() -> Result<usize> + Send + 'static,
    ) -> Result<()> {
        let results = self.result_sender.clone();
        let wake_main = Arc::clone(&self.wake_main);
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(anyhow!("panicked")))
                .with_context(|| format!("loop {number}"));
            // Neither fails while the main thread exists. It ends the process
            // when it returns.
            let _ = results.send(result);
            let _ = wake(&wake_main);
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
        self.wake_loops.push(shutdown);
        Ok(())
    }

    /// Waits until all loops have ended. The first signal starts their drain. A
    /// second signal ends the server at once, as a failure. So does an error or
    /// a panic of a loop, because otherwise the server would go on with one
    /// loop less.
    ///
    /// A shared listener is shut down as soon as the loops are woken, because a
    /// busy loop would keep it open. That resets the connections in its accept
    /// queue, and later ones are refused (inet_shutdown in net/ipv4/af_inet.c,
    /// tcp_disconnect in net/ipv4/tcp.c).
    pub fn wait(mut self, mut shared: Option<Arc<OwnedFd>>) -> Result<()> {
        let mut events = Events::with_capacity(2);
        let mut stopping = false;
        let (mut running, mut cut_off) = (self.wake_loops.len(), 0);
        while running > 0 {
            wait(&mut self.poll, &mut events, None)?;
            while let Some(_signal) = next(&self.signals)? {
                if stopping {
                    bail!("stopped by a second signal");
                }
                stopping = true;
                for shutdown in &self.wake_loops {
                    wake(shutdown)?;
                }
                // Fails only if it is shut down already.
                if let Some(listener) = shared.take() {
                    let _ = shutdown(listener.as_raw_fd(), Shutdown::Read);
                }
            }
            for clients in self.results.try_iter() {
                cut_off += clients?;
                running -= 1;
            }
        }
        common::report_cut_off(cut_off);
        Ok(())
    }
}

/// Wakes a thread: its wait, or else its next one, returns at once.
fn wake(waker: &Waker) -> Result<()> {
    loop {
        match waker.wake() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            woken => return woken.context("eventfd"),
        }
    }
}

impl Server<'_> {
    /// Begins the drain: no connection is accepted any more, what has arrived
    /// is answered, and each conversation ends. Connections still in this
    /// loop's accept queue are reset: the kernel migrates them to a listener of
    /// another loop only if net.ipv4.tcp_migrate_req is set. A shared listener
    /// stays on the interest list while another loop has it, so it is removed.
    pub fn begin_drain(&mut self) {
        self.drain_until = Some(self.now + self.config.drain_timeout);
        if let Some(mut listener) = self.listener.take() {
            listener.unwatch(&self.poll);
        }
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
