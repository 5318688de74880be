//! **Asynchronous I/O**: a program submits operations, each with the buffer for
//! its bytes, and collects completions. A completion reports that the data has
//! already been copied.
//!
//! # How it works
//!
//! `examples/minimal_io_uring.rs` and `examples/minimal_posix_aio.rs` are the
//! two variants of this model alone.
//!
//! ```text
//!      application                         kernel or helper thread
//!           |    submit: receive to a buffer |
//!           |------------------------------->|  nothing has arrived
//!           |    wait for completions        |
//!        asleep, for all operations at once  |  phase 1: waiting for data
//!           :                                |  a segment arrives
//!           :                                |  phase 2: copying it, to the
//!           :                                |  operation's buffer
//!           |<-------------------------------|
//!           |    a completion: the operation |
//!           |    and the number of bytes     |
//!        answers, submits a send, and waits again
//! ```
//!
//! POSIX calls an I/O operation synchronous if it blocks the thread that
//! requests it until it is complete, and asynchronous if it does not (POSIX.1,
//! Base Definitions, chapter 3). By this definition all other models here are
//! synchronous, because the recv(2) that copies blocks its thread meanwhile.
//!
//! Multiplexing and signals report readiness: a recv(2) now would not wait.
//! Asynchronous I/O reports completion: the receive has been carried out. An
//! event loop that dispatches readiness is called a reactor, and one that
//! dispatches completions a proactor.
//!
//! Both variants of this proactor follow three rules:
//!
//! - An operation in flight owns its buffer. The program neither reads, changes
//!   nor frees it before the completion.
//! - Cancelling an operation is only a request. The operation may have been
//!   carried out by then, so its completion is awaited in any case.
//! - A connection is closed only when none of its operations is in flight.
//!
//! The variants differ in who carries out the operations. Each is a chapter of
//! its own:
//!
//! - `io-uring`, in `src/uring.rs`: the kernel, on the program's only thread.
//!   One system call per round submits, waits, copies and returns completions.
//! - `posix-aio`, in `src/posix_aio.rs`: threads of the C library, one per
//!   operation in flight. Each blocks in read(2) and copies, while the main
//!   thread may compute. A signal reports the completion.
//!
//! Linux native AIO, io_submit(2), is not here, because on a socket it is
//! synchronous: io_submit itself waits for the data (seen on Linux 6.18).
//!
//! # System calls
//!
//! Both: shutdown(2) and ioctl(2) (tcp(7)).
//!
//! `io-uring`: io_uring_setup(2), io_uring_register(2), and io_uring_enter(2)
//! for all operations; the rest is in `uring.rs`.
//!
//! `posix-aio`: aio_read(3), aio_write(3), aio_error(3), aio_return(3),
//! sigtimedwait(2), accept4(2); the rest is in `posix_aio.rs`.
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). One thread handles the
//! completions: a request that takes long delays all the others. `io-uring`
//! requires Linux 6.1, for IORING_SETUP_DEFER_TASKRUN (io_uring_setup(2)), and
//! permission to use io_uring. `posix-aio` requires 64-bit glibc and one thread
//! per client. A variant that this system can't run exits with code 77.
//!
//! # When to use it
//!
//! `io-uring` where many clients are busy at the same time: one system call
//! serves them all, in place of two per client. With few busy clients it gains
//! nothing over epoll, and its rules are harder to keep. `posix-aio` to see why
//! it is not used for sockets.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, which also waits for all clients in one call, but then
//! makes a recv(2) for each socket that is ready; `signal-driven`, where a
//! signal reports that data can be copied, not that it has been;
//! `thread-per-connection`, which is what `posix-aio` hides.
//!
//! # References
//!
//! - UNP, section 6.2: the five models of I/O, and POSIX's definitions.
//! - TLPI, section 63.1: an overview of the alternatives to blocking I/O.
//! - D. Schmidt et al., Pattern-Oriented Software Architecture, vol. 2:
//!   Reactor and Proactor.

mod accept;
mod connection;
mod datagrams;
mod drain;
mod operation;
mod posix_aio;
mod queues;
mod ring;
mod uring;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use nix::errno::Errno;
use slotmap::{DefaultKey, SlotMap};

use common::limits::{ACCEPT_BACKOFF, ACK_POLL_INTERVAL};
use common::{
    About, Cause, Clients, Config, ConnectionLimit, Model, Session,
    SpareDescriptor, Timer, Timers, log, reject,
};

use connection::{BufferPool, Connection, is_peer_error};

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(&config, flags.engine))
}

fn serve(config: &Config, engine: Engine) -> Result<()> {
    match engine {
        Engine::IoUring => uring::serve(config, drain::signals()?),
        Engine::PosixAio => posix_aio::serve(config),
    }
}

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Flags {
    /// Engine that carries out the operations.
    #[arg(long, value_enum, default_value_t = Engine::IoUring)]
    engine: Engine,
}

/// The engine that carries out the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The kernel.
    IoUring,
    /// Threads of the C library.
    PosixAio,
}

/// The server's state, except the operations in flight, which the engine owns.
struct Server<'a> {
    config: &'a Config,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers<DefaultKey>,
    pool: BufferPool,
    about: About,
    now: Instant,
    /// When accepting resumes, if it is paused for lack of descriptors or
    /// memory.
    paused_until: Option<Instant>,
    /// The end of the drain, once shutdown was requested.
    drain_until: Option<Instant>,
    /// During the drain: when to poll next which clients have acknowledged all
    /// replies.
    next_ack_poll: Instant,
}

impl<'a> Server<'a> {
    /// Call it when everything is bound, because the connection limit depends
    /// on the descriptors that are left.
    fn new(config: &'a Config, variant: &'static str) -> Result<Self> {
        Self::with_ceiling(config, variant, usize::MAX, "ulimit -Hn")
    }

    /// Creates the state for an engine that can't have more than `ceiling`
    /// clients; `why` names the setting that limits it.
    fn with_ceiling(
        config: &'a Config,
        variant: &'static str,
        ceiling: usize,
        why: &str,
    ) -> Result<Self> {
        Ok(Self {
            config,
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::with_ceiling(config, 1, ceiling, why),
            connections: SlotMap::new(),
            timers: Timers::new(),
            pool: BufferPool::new(),
            about: About::new(MODEL.name, variant),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
            next_ack_poll: Instant::now(),
        })
    }

    /// True when the drain is over: no client is left, or its time is up.
    fn has_finished(&self) -> bool {
        let asked = self.drain_until.is_some();
        asked && (self.connections.is_empty() || self.is_out_of_time())
    }

    /// True when the time for the drain is up.
    fn is_out_of_time(&self) -> bool {
        self.drain_until.is_some_and(|until| until <= Instant::now())
    }

    /// Returns when the next wait must end even if nothing completes.
    fn next_moment(&self) -> Option<Instant> {
        let look = self.drain_until.map(|_| self.next_ack_poll);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, look];
        moments.into_iter().flatten().min()
    }

    /// Adds a new client and returns its key, or rejects it.
    fn on_accepted(&mut self, stream: OwnedFd) -> Option<DefaultKey> {
        // This connection has taken the descriptor that was kept spare.
        if !self.spare.reacquire() {
            let why = format_args!("no descriptor is left (ulimit -Hn)");
            reject(stream, why);
            self.about.counters.rejected += 1;
            return None;
        }
        if !self.limit.allows(self.connections.len()) {
            let max = self.limit.max();
            reject(stream, format_args!("--max-connections {max} reached"));
            self.about.counters.rejected += 1;
            return None;
        }
        self.about.counters.accepted += 1;
        self.about.counters.clients += 1;
        let id = self.about.counters.accepted;
        let session = Session::new(id, self.config.max_request);
        let mut timer = Timer::new(self.config.idle_timeout, self.now);
        Some(self.connections.insert_with_key(|key| {
            self.timers.schedule(key, &mut timer);
            Connection::new(stream, session, timer)
        }))
    }

    /// Pauses accepting until a client leaves or the back-off ends, because an
    /// accept would only fail again.
    fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.paused_until = Some(self.now + ACCEPT_BACKOFF);
    }

    /// Returns a client whose idle timeout has expired, and removes its timer.
    fn pop_timed_out(&mut self) -> Option<DefaultKey> {
        while let Some(key) = self.timers.pop_expired(self.now) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            if connection.timer.has_expired(self.now) {
                return Some(key);
            }
            self.timers.reschedule(key, &mut connection.timer);
        }
        None
    }

    /// During the drain, returns the clients that have acknowledged all
    /// replies. Polls at most once per `ACK_POLL_INTERVAL`.
    fn acknowledged(&mut self) -> Vec<DefaultKey> {
        if self.drain_until.is_none() || self.now < self.next_ack_poll {
            return Vec::new();
        }
        self.next_ack_poll = self.now + ACK_POLL_INTERVAL;
        let connections = self.connections.iter();
        connections
            .filter(|(_, connection)| connection.is_acknowledged())
            .map(|(key, _)| key)
            .collect()
    }

    /// Logs an error that no client can cause.
    fn report(&self, errno: Errno) {
        if !is_peer_error(errno) {
            log(
                Cause::Conversation,
                format_args!("a conversation failed: {errno}"),
            );
        }
    }

    /// Closes a connection that has no operation in flight.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
