//! Stopping a program of several loops: the main thread takes the signals,
//! wakes the loops, and waits until the last one has ended.

use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
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

use crate::{READABLE, Server, poll};

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

/// What the main thread waits for.
const SIGNALS: Token = Token(0);
const ENDED: Token = Token(1);

/// The main thread's part. It serves nobody, so that no client can keep it
/// from hearing a signal, and a loop that ends does not end unseen.
pub struct Supervisor {
    poll: Poll,
    signals: SignalFd,
    /// What wakes each of the loops.
    loops: Vec<Waker>,
    /// How a loop ended; to look there, it wakes the main thread.
    ends: Receiver<Result<usize>>,
    end: Sender<Result<usize>>,
    ended: Arc<Waker>,
}

impl Supervisor {
    /// Call it before there is a second thread: each inherits what is blocked.
    pub fn new() -> Result<Self> {
        let signals = signals()?;
        let poll = Poll::new().context("epoll_create1")?;
        let mut source = SourceFd(&signals.as_raw_fd());
        poll.registry()
            .register(&mut source, SIGNALS, READABLE)
            .context("epoll_ctl")?;
        let ended = Waker::new(poll.registry(), ENDED).context("eventfd")?;
        let (end, ends) = channel();
        let (loops, ended) = (Vec::new(), Arc::new(ended));
        Ok(Self { poll, signals, loops, ends, end, ended })
    }

    /// Runs a loop on a thread of its own, until `stop` wakes it. `work` says
    /// how many clients it had to cut off.
    pub fn start(
        &mut self,
        number: u32,
        shutdown: Waker,
        work: impl FnOnce() -> Result<usize> + Send + 'static,
    ) -> Result<()> {
        let (end, ended) = (self.end.clone(), Arc::clone(&self.ended));
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(anyhow!("panicked")))
                .with_context(|| format!("loop {number}"));
            // Neither fails: the main thread is there as long as the process.
            let _ = end.send(result);
            let _ = wake(&ended);
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
        self.loops.push(shutdown);
        Ok(())
    }

    /// Waits until all loops have ended. The first signal stops them; a second
    /// one is a failure, and so is the end of a loop in any other way: the
    /// kernel would go on handing clients to it, and nobody would serve them.
    pub fn wait(mut self) -> Result<()> {
        let mut events = Events::with_capacity(2);
        let mut stopping = false;
        let (mut running, mut cut_off) = (self.loops.len(), 0);
        while running > 0 {
            poll(&mut self.poll, &mut events, None)?;
            while let Some(_signal) = next(&self.signals)? {
                if stopping {
                    bail!("stopped by a second signal");
                }
                stopping = true;
                for shutdown in &self.loops {
                    wake(shutdown)?;
                }
            }
            for clients in self.ends.try_iter() {
                cut_off += clients?;
                running -= 1;
            }
        }
        common::report_cut_off(cut_off);
        Ok(())
    }
}

/// Wakes a thread from its wait, or has its next one return at once.
fn wake(waker: &Waker) -> Result<()> {
    loop {
        match waker.wake() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            woken => return woken.context("eventfd"),
        }
    }
}

impl Server<'_> {
    /// No new clients, what was received is answered, every conversation comes
    /// to its end. Who waits in the backlog is reset: the kernel hands nobody
    /// over to a listener that another loop has not closed yet, unless
    /// net.ipv4.tcp_migrate_req says so.
    pub fn begin_drain(&mut self) {
        self.drain_until = Some(self.now + self.config.drain_timeout);
        self.listener = None;
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
