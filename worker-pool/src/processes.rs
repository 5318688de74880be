//! The variant `processes`: the parent forks the workers before it serves, and
//! each of them accepts its clients itself. `work` is what a worker does;
//! `serve` is the parent.

mod children;
mod clients;
mod drain;

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::exit;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use common::limits::RESTART_INTERVAL;
use common::{About, Cause, Config, log, reject};

use crate::conversation::converse;
use crate::drain::{clear_target, install, set_target};
use crate::flags::Flags;
use crate::{MODEL, Pool, datagrams, worker};
use children::Children;
use clients::Clients;

pub fn serve(config: Config, flags: Flags) -> Result<()> {
    let (listener, tcp) = common::listen(&config)?.unzip();
    let (socket, udp) = common::bind_datagrams(&config)?.unzip();
    let mut parent = Parent::new(config, flags, listener)?;
    if let Some(socket) = socket {
        parent.start_datagrams(socket)?;
    }
    parent.start_workers(flags.workers())?;
    common::announce(tcp, udp)?;

    while !parent.has_finished() {
        parent.wait()?;
        parent.on_signal()?;
        parent.replace_workers();
    }
    let cut_off = parent.clients.connected();
    parent.children.kill(&parent.clients);
    common::report_cut_off(cut_off);
    Ok(())
}

/// The parent process. It has one thread, and no clients.
struct Parent {
    pid: Pid,
    drain_timeout: Duration,
    about: About,
    /// The state that the workers inherit. `None` if the server has no
    /// listener, once shutdown is requested, and in the datagram process.
    pool: Option<Pool>,
    clients: Clients,
    signals: SignalFd,
    children: Children,
    /// Set once shutdown is requested: when the drain timeout ends.
    drain_until: Option<Instant>,
}

impl Parent {
    fn new(
        config: Config,
        flags: Flags,
        listener: Option<OwnedFd>,
    ) -> Result<Self> {
        let drain_timeout = config.drain_timeout;
        let about = About::new(MODEL.name, flags.kind.name());
        let pool = listener
            .map(|listener| Pool::new(config, listener, flags, about.clone()))
            .transpose()?;
        let limit = pool.as_ref().map_or(usize::MAX, |it| it.limit.max());
        Ok(Self {
            pid: getpid(),
            drain_timeout,
            about,
            pool,
            clients: Clients::new(limit.min(flags.workers()))?,
            signals: drain::signals()?,
            children: Children::default(),
            drain_until: None,
        })
    }

    /// True when the drain is over: no child is left, or its time is up.
    fn has_finished(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            self.children.is_empty() || until <= Instant::now()
        })
    }

    /// Waits for a signal, or until a worker is to be started.
    fn wait(&self) -> Result<()> {
        let until = self.drain_until.or(self.children.next_start());
        let timeout = poll_timeout(until, Instant::now());
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        match poll(&mut [signals], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("poll"),
        }
    }

    /// Starts all workers, if there is a listener.
    fn start_workers(&mut self, workers: usize) -> Result<()> {
        for number in 1..=workers {
            self.start_worker().with_context(|| {
                format!(
                    "cannot fork worker {number} of {workers} (ulimit -u, \
                     kernel.pid_max)"
                )
            })?;
        }
        Ok(())
    }

    /// Replaces the workers that have died, as soon as they may be started
    /// again.
    fn replace_workers(&mut self) {
        while self.children.start_now() {
            if let Err(errno) = self.start_worker() {
                log(
                    Cause::Worker,
                    format_args!(
                        "cannot start a worker: fork: {errno} (ulimit -u, \
                         kernel.pid_max); trying again in 1 s"
                    ),
                );
                self.children.start_at(Instant::now() + RESTART_INTERVAL);
            }
        }
    }

    /// Starts a worker.
    fn start_worker(&mut self) -> nix::Result<()> {
        let Some(pool) = &self.pool else { return Ok(()) };
        // SAFETY: this process has one thread, so the child may do whatever
        // the parent may.
        match unsafe { fork() }? {
            ForkResult::Child => {
                self.become_child();
                worker::run(&|| work(pool, &self.clients));
                exit(0)
            }
            ForkResult::Parent { child } => self.children.add_worker(child),
        }
        Ok(())
    }

    /// Starts a process for the datagram service.
    fn start_datagrams(&mut self, socket: OwnedFd) -> Result<()> {
        // SAFETY: this process has one thread, so the child may do whatever
        // the parent may.
        match unsafe { fork() }.context("cannot fork the datagram process")? {
            ForkResult::Child => {
                self.become_child();
                // An open listener would keep the port in use.
                self.pool = None;
                set_target(socket.as_fd());
                datagrams::serve(&socket, &mut self.about.clone().here());
                exit(0)
            }
            ForkResult::Parent { child } => self.children.add_datagrams(child),
        }
        Ok(())
    }

    /// Turns the copy of the parent into a child: has the kernel kill it when
    /// the parent dies. The inherited signalfd stays open; the child does not
    /// read it.
    fn become_child(&self) {
        let tied = prctl::set_pdeathsig(Signal::SIGKILL);
        // If the parent died before prctl, no signal is sent (prctl(2)).
        let orphaned = getppid() != self.pid;
        if tied.is_err() || orphaned || install().is_err() {
            exit(1);
        }
    }
}

/// The work of a worker: serves one client after the other. While all workers
/// do, further clients wait in the accept queue.
fn work(pool: &Pool, clients: &Clients) -> Result<()> {
    while let Some(stream) = pool.accept()? {
        let Some((_slot, counters)) = clients.acquire() else {
            let max = pool.limit.max();
            reject(stream, format_args!("--max-connections {max} reached"));
            continue;
        };
        let mut about = pool.about.clone().here();
        about.counters = counters;
        set_target(stream.as_fd());
        converse(&stream, &pool.config, &mut about);
        // The number of the descriptor may soon be another client's.
        clear_target(stream.as_fd());
    }
    Ok(())
}

/// Converts to milliseconds, rounded up: rounded down, the loop would spin for
/// the last millisecond.
fn poll_timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(now).as_micros();
    PollTimeout::try_from(left.div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
