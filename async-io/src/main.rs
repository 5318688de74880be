//! **Asynchronous I/O**: a program submits operations, each with the buffer for
//! its bytes, and collects completions. When it learns of data, the data has
//! been copied.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    io_uring_enter(receive)     |
//!           |------------------------------->|  nothing has come
//!        asleep, for all operations at once  |  phase 1: waiting for data
//!           :                                |  a segment arrives: the thread
//!           :                                |  wakes up inside the call
//!           :                                |  phase 2: it copies, into the
//!           :                                |  program's buffer
//!           |<-------------------------------|
//!           |    a completion: the number of |
//!           |    bytes                       |
//!        answers                             |
//!           |    io_uring_enter(send)        |
//!           |------------------------------->|  copies what there is room for,
//!           :                                |  now or when there is
//!           |<-------------------------------|
//!           |    a completion: the number of |
//!           |    bytes, whose buffer is free |
//! ```
//!
//! With multiplexing and with signals a program learns that it may copy, and
//! copies. Here it says beforehand that it wants to receive, and learns that
//! the copy has been made. Until an operation is complete, its buffer belongs
//! to the kernel or the library's thread that carries it out; one that is
//! cancelled may have been done already; and a connection can't go while
//! anything of it is in flight.
//!
//! The variants differ in whose call copies, and on which thread:
//!
//! - `io-uring`: one call per round, io_uring_enter(2), submits, waits, copies
//!   and reports; no separate receive call is made. Operations and completions
//!   pass through two queues in memory that program and kernel share. One
//!   operation receives from a client for as long as it stays, into buffers
//!   that the kernel picks from a shared pool when it copies, so an idle client
//!   holds no buffer.
//! - `posix-aio`: threads of the C library. Each blocks in read(2) and copies,
//!   while the main thread may compute; a signal reports the completion. glibc
//!   does aio_read(3) on a socket in no other way.
//!
//! The ring is set up with IORING_SETUP_DEFER_TASKRUN: the copy is made on the
//! program's own thread, inside io_uring_enter, and never while that thread
//! computes. Data that arrives meanwhile stays in its socket until the next
//! call with IORING_ENTER_GETEVENTS, which this program always sets. Other
//! flags change this, see io_uring_setup(2). With none, the kernel interrupts
//! the computing thread, which copies at once. With IORING_SETUP_SQPOLL a
//! thread of the kernel copies. `xtask/suite/tests/kernel.rs` has a test of
//! each.
//!
//! # System calls
//!
//! `io-uring`: io_uring_setup(2), io_uring_register(2) for the buffers,
//! io_uring_enter(2) for all operations: accept, recv, send, recvmsg, cancel,
//! and poll, by which it also hears of a stop. signalfd(2), shutdown(2) and
//! ioctl(2) (tcp(7)) are calls of their own.
//!
//! `posix-aio`: aio_read(3), aio_write(3), aio_error(3), aio_return(3),
//! sigtimedwait(2), accept4(2), fcntl(2), shutdown(2), ioctl(2); the rest is in
//! `posix_aio.rs`.
//!
//! # Limits
//!
//! `io-uring`: one descriptor per client (EMFILE at RLIMIT_NOFILE), and about
//! 860 bytes of kernel memory for the receive that is in flight (io_kiocb,
//! kmalloc-512 and kmalloc-96 in slabinfo(5), on x86-64 with Linux 6.18). The
//! variant requires Linux 6.1, for IORING_SETUP_DEFER_TASKRUN (kernel commit
//! c0e0d6ba25f1), and a system that does not forbid io_uring, as containers
//! often do. Otherwise it exits with code 77.
//!
//! Since Linux 6.14 the queues count as locked memory of the user
//! (io_create_region in io_uring/memmap.c, which kernel commits 8078486e1d53
//! and 81a4058e0cd0 use for them): 144 KiB of RLIMIT_MEMLOCK on x86-64, unless
//! the program has CAP_IPC_LOCK. With less, the set-up fails with ENOMEM, as
//! `ulimit -l 140` shows. From 5.12 to 6.13 they do not count
//! (io_uring_mlock_size(3)).
//!
//! 128 clients can have a buffer at a time; more than that wait for it in turn
//! (ENOBUFS). One thread: a request that takes long delays all the others.
//!
//! `posix-aio`: one thread per client, because each read waits in read(2) on a
//! thread of its own.
//!
//! # When to use it
//!
//! `io-uring` where many clients are busy at the same time: one system call
//! serves them all, in place of two for each. Where few are, it gains nothing
//! over epoll, and its rules are harder to keep. `posix-aio` to see why nobody
//! uses it for sockets.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, which waits as `io-uring` does, in one call for all,
//! but then makes a call of its own to receive from each socket;
//! `signal-driven`, where a signal comes before the copying and not after it;
//! `thread-per-connection`, which is what `posix-aio` hides.

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
    /// Who does the operations.
    #[arg(long, value_enum, default_value_t = Engine::IoUring)]
    engine: Engine,
}

/// Who does the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The kernel.
    IoUring,
    /// Threads of the C library.
    PosixAio,
}

/// The server, but for the operations in flight: those are the engine's.
struct Server<'a> {
    config: &'a Config,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers<DefaultKey>,
    pool: BufferPool,
    about: About,
    now: Instant,
    /// Accepting is paused until then, for lack of descriptors or memory.
    paused_until: Option<Instant>,
    /// The end of the drain, once shutdown was requested.
    drain_until: Option<Instant>,
    /// After a stop: when to look who has all its replies.
    next_ack_poll: Instant,
}

impl<'a> Server<'a> {
    /// Call it when everything is bound: the descriptors left are counted.
    fn new(config: &'a Config, variant: &'static str) -> Result<Self> {
        Self::with_ceiling(config, variant, usize::MAX, "ulimit -Hn")
    }

    /// The same for an engine that can't have more than `ceiling` clients;
    /// `why` is where to read about it.
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

    /// True when a stop has taken all the time it may.
    fn is_out_of_time(&self) -> bool {
        self.drain_until.is_some_and(|until| until <= Instant::now())
    }

    /// When there is something to do even if nothing completes.
    fn next_moment(&self) -> Option<Instant> {
        let look = self.drain_until.map(|_| self.next_ack_poll);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, look];
        moments.into_iter().flatten().min()
    }

    /// Takes a new client in and says under which key, or refuses it.
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

    /// Acceptor stay in the backlog until a client leaves, or for a moment.
    fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.paused_until = Some(self.now + ACCEPT_BACKOFF);
    }

    /// A client whose time is up. It is not watched any more.
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

    /// While stopping, now and then: those that have all their replies.
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

    /// Says why a conversation ends that failed in a way no client can cause.
    fn report(&self, errno: Errno) {
        if !is_peer_error(errno) {
            log(
                Cause::Conversation,
                format_args!("a conversation failed: {errno}"),
            );
        }
    }

    /// Closes a connection of which nothing is in flight.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
