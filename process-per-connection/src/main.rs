//! **One process per client**: the conversation of `blocking`, unchanged, in a
//! child process that fork(2) creates when a client connects.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!    parent |    poll(listener, signals)     |
//!           |<-------------------------------|  a client has connected
//!           |    accept4, then fork          |
//!           |--+                             |
//!     polls |  |    recv(stream)             |
//!     again |  |---------------------------->|  nothing has arrived
//!           :  asleep                        |  phase 1: waiting for data
//!           :  :                             |  a segment arrives
//!           :  wakes up in the call          |  phase 2: copying it
//!           :  |<----------------------------|  to the child's buffer
//!           :  |    the number of bytes      |
//!           :  answers, sends, receives again
//! ```
//!
//! The child is a copy of the parent at the moment of the fork. Their memory is
//! shared copy-on-write: the kernel copies a page only when one of them writes
//! to it. Their descriptors are copies, but refer to the same open file
//! descriptions (fork(2)), and a socket is closed only with its last
//! descriptor. So the child closes the listener, or the port would stay in use
//! after the parent has closed it, and the parent closes the stream, or the
//! client would never see end of file.
//!
//! A child that crashes takes one client with it. If the parent dies, the
//! kernel kills its children (PR_SET_PDEATHSIG, prctl(2)).
//!
//! A child that has ended remains a zombie until the parent reaps it with
//! waitpid(2). SIGCHLD reports such children; as pending signals of one kind
//! merge, the parent reaps all that have ended.
//!
//! The parent has one thread and no signal handler. Its signals are blocked,
//! and it polls a signalfd together with the listener. So no signal is missed
//! between a check and a wait.
//!
//! In a preforked server, a fixed number of children are forked at the start,
//! and accept from one listener. A client then does not wait for a fork, but no
//! more clients are served at a time than there are children. That is
//! `worker-pool` with `--kind processes`.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), poll(2), signalfd(2) and read(2) on it, accept4(2),
//! fork(2), waitpid(2) and kill(2) in the parent; in a child prctl(2), _exit(2)
//! and those of `blocking`: recv(2), send(2), shutdown(2), setsockopt(2),
//! recvfrom(2), sendto(2), sigaction(2), ioctl(2).
//!
//! # Limits
//!
//! One process per client: about 50 KiB of pages that it has written to, and 90
//! in the kernel for page tables, kernel stack and the like, not counting the
//! two sockets (`cargo xtask compare --full`, x86-64). fork fails with EAGAIN
//! at the limit of processes (RLIMIT_NPROC, kernel.pid_max, kernel.threads-max,
//! the control group's pids.max). The new connection is rejected then, and no
//! other client is affected. A child cannot see what another keeps in memory.
//!
//! # When to use it
//!
//! When the kernel must keep clients apart: different users, different limits,
//! code that may crash. Also for few clients that stay connected, because a
//! fork costs more than many requests do.
//!
//! # Compare with
//!
//! `blocking`, which has the same conversation; `thread-per-connection`, where
//! the clients share one memory; `worker-pool`, where the processes exist
//! before their clients.
//!
//! # References
//!
//! - UNP, sections 4.8 (concurrent servers), 5.9 (SIGCHLD and zombies) and
//!   30.5 (one child per client).
//! - TLPI, section 24.2 (fork: shared files, copy-on-write), chapter 26
//!   (zombies) and section 60.3 (a concurrent server).
//! - fork(2), waitpid(2), signalfd(2), prctl(2).
//! - docs/CLAIMS.md: fork-copies-descriptors, fork-copies-memory,
//!   child-end-by-pid, ten-thousand-processes, multiplexing-saves-time,
//!   multiplexing-saves-more, multiplexing-saves-memory.

mod accept;
mod acceptor;
mod children;
mod conversation;
mod datagrams;
mod drain;
mod queues;

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use common::{
    About, Clients, Config, ConnectionLimit, Model, SpareDescriptor, reject,
};

use children::Children;
use conversation::converse;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let mut parent = Parent::new(config, listener)?;
    if let Some(socket) = socket {
        parent.start_datagrams(socket)?;
    }
    common::announce(tcp, udp)?;

    while !parent.has_finished() {
        let ready = parent.wait()?;
        if ready.signals {
            parent.on_signal()?;
        }
        if ready.new_clients {
            parent.accept_pending()?;
        }
    }
    common::report_cut_off(parent.children.kill());
    Ok(())
}

/// The accepting process. It has one thread and serves no client itself.
struct Parent<'a> {
    config: &'a Config,
    pid: Pid,
    limit: ConnectionLimit,
    /// `None` once shutdown is requested, and in a child.
    listener: Option<OwnedFd>,
    spare: SpareDescriptor,
    signals: SignalFd,
    children: Children,
    about: About,
    /// Accepting is paused until this time, for lack of descriptors or memory.
    paused_until: Option<Instant>,
    /// Set once shutdown is requested: when the drain timeout ends.
    drain_until: Option<Instant>,
}

/// The descriptors that are ready: the signalfd, the listener, or both.
struct Ready {
    signals: bool,
    new_clients: bool,
}

impl<'a> Parent<'a> {
    fn new(config: &'a Config, listener: Option<OwnedFd>) -> Result<Self> {
        acceptor::prepare(listener.as_ref())?;
        Ok(Self {
            config,
            pid: getpid(),
            limit: ConnectionLimit::new(config, 0),
            listener,
            spare: SpareDescriptor::open()?,
            signals: drain::signals()?,
            children: Children::default(),
            about: About::new(MODEL.name, ""),
            paused_until: None,
            drain_until: None,
        })
    }

    /// True when the drain is over: no client is left, or its time is up.
    fn has_finished(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            self.children.is_empty() || until <= Instant::now()
        })
    }

    /// Waits for a signal or a new client.
    fn wait(&mut self) -> Result<Ready> {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let timeout = poll_timeout(self.paused_until.or(self.drain_until), now);
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let mut watched = vec![signals];
        if let (Some(listener), None) = (&self.listener, self.paused_until) {
            watched.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(Ready {
            signals: watched.first().is_some_and(is_ready),
            new_clients: watched.get(1).is_some_and(is_ready),
        })
    }

    /// Starts a process for a new client, or rejects the connection.
    fn serve_client(&mut self, stream: OwnedFd) {
        let mut about = self.about.clone();
        about.counters.accepted += 1;
        about.counters.clients = self.children.clients() as u64 + 1;
        // SAFETY: this process has one thread, so the child may do whatever
        // the parent may.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                self.become_child();
                drain::set_target(stream.as_fd());
                converse(&stream, self.config, &mut about.here());
                end_child(0)
            }
            // The parent's descriptor of the stream is closed here.
            Ok(ForkResult::Parent { child }) => {
                self.children.add_client(child);
                self.about = about;
            }
            Err(errno) => {
                reject(
                    stream,
                    format_args!("fork: {errno} (ulimit -u, kernel.pid_max)"),
                );
                self.about.counters.rejected += 1;
            }
        }
    }

    /// Starts a process for the datagram service.
    fn start_datagrams(&mut self, socket: OwnedFd) -> Result<()> {
        // SAFETY: this process has one thread, so the child may do whatever
        // the parent may.
        match unsafe { fork() }.context("cannot fork the datagram process")? {
            ForkResult::Child => {
                self.become_child();
                datagrams::serve(&socket, &mut self.about.clone().here());
                end_child(0)
            }
            ForkResult::Parent { child } => self.children.add_datagrams(child),
        }
        Ok(())
    }

    /// Turns the copy of the parent into a child: closes the listener, which
    /// would keep the port in use, and the spare descriptor, and has the kernel
    /// kill the child when the parent dies. The inherited signalfd stays open;
    /// the child does not read it.
    fn become_child(&mut self) {
        self.listener = None;
        self.spare.release();
        let tied = prctl::set_pdeathsig(Signal::SIGKILL);
        // If the parent died before prctl, no signal is sent (prctl(2)).
        let orphaned = getppid() != self.pid;
        if tied.is_err() || orphaned || drain::install().is_err() {
            end_child(1);
        }
    }
}

/// Ends a child. exit(3) would also run what the C library and Rust do at the
/// end of a program. A child has no use for that, and it writes to pages that
/// the kernel must copy first.
fn end_child(code: i32) -> ! {
    // SAFETY: _exit ends the process, and takes a number only.
    unsafe { libc::_exit(code) }
}

/// Converts to milliseconds, rounded up: rounded down, the loop would spin for
/// the last millisecond.
fn poll_timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(now).as_micros();
    PollTimeout::try_from(left.div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
