//! **One event loop per core**: each loop is a thread with an epoll instance
//! and clients of its own. It accepts them from its own listener, or in the
//! variant `shared` from one that all loops have. Other names for the model are
//! thread-per-core and shared-nothing.
//!
//! # How it works
//!
//! `examples/minimal.rs` and `examples/minimal_shared.rs` are the two variants
//! alone. In `reuseport`:
//!
//! ```text
//!      application                         kernel
//!      loop 0   loop 1                       |
//!        |        |    epoll_wait            |
//!        |        |------------------------->|  nothing has arrived
//!     asleep   asleep                        |  a client connects; a hash of
//!        :        :                          |  both ends' addresses and ports
//!        :        |<-------------------------|  picks loop 1's accept queue
//!        :        |    accept4, epoll_ctl,   |
//!        :        |    epoll_wait            |
//!        :        |------------------------->|  phase 1: waiting for data
//!        :        :                          |  a segment arrives
//!        :        |<-------------------------|
//!        :        |    recv(stream)          |
//!        :        |------------------------->|  phase 2: copying it
//!        :        |<-------------------------|
//!        :        |    the number of bytes   |
//!     asleep   answers, sends, and waits again
//! ```
//!
//! The variants differ in what decides which loop accepts a connection, and
//! then keeps it:
//!
//! - `reuseport`: a hash, before any loop knows of the connection. Each loop
//!   has a listening socket of its own. SO_REUSEPORT lets all of them be bound
//!   to one address, and gives each its own accept queue.
//! - `shared`: which loop waits. All loops have one listener on their
//!   interest lists, and EPOLLEXCLUSIVE lets a connection wake one of them
//!   instead of all. The kernel goes through the loops in the order in which
//!   they have added the listener, and stops at the first one that is in
//!   epoll_wait (add_wait_queue_exclusive in kernel/sched/wait.c,
//!   ep_poll_callback in fs/eventpoll.c). So loop 0 of an idle server gets
//!   nearly all connections, and the others get some while it is busy. The
//!   rules of the shared listener are in `listener.rs`.
//!
//! In both variants each loop has a datagram socket of its own, and all
//! datagrams from one address and port come to the same loop.
//!
//! Each loop is that of `multiplexing-epoll/edge`, on a thread pinned to a
//! core. It uses mio, which is epoll with a portable interface (kqueue or I/O
//! completion ports on other systems). mio registers every descriptor
//! edge-triggered, so a loop must remember what it leaves unread: connections
//! over their read budget go on a ready list, and for the listener and the
//! datagram socket it notes when to look again. mio does no I/O, and returns
//! EINTR to the caller.
//!
//! The loops share two atomic variables: the number of clients, for
//! `--max-connections`, and the spare descriptor. No loop waits for a request
//! of another. Within a loop there is head-of-line blocking: a request that
//! takes long delays that loop's other clients, even while another core is
//! idle.
//!
//! A second server must not bind the same address and take half of the clients.
//! So the first listener is bound without SO_REUSEPORT, and gets the option
//! before the others are bound (`reuseport_group` in `sockets.rs`).
//!
//! The main thread is a supervisor (`drain.rs`). It has no clients, so N loops
//! are N + 1 threads, and it receives signals however busy the loops are. If a
//! loop ends unexpectedly, the supervisor ends the process.
//!
//! # System calls
//!
//! epoll_create1(2), epoll_ctl(2), epoll_wait(2) and eventfd(2), through mio,
//! and epoll_ctl(2) without it for EPOLLEXCLUSIVE; fcntl(2) (O_NONBLOCK),
//! accept4(2), recv(2), send(2), shutdown(2), ioctl(2) (tcp(7)); for datagrams
//! recvfrom(2) and sendto(2); setsockopt(2) for SO_REUSEPORT; clone3(2),
//! through pthread_create(3), sched_getaffinity(2) and sched_setaffinity(2) for
//! the loops; signalfd(2) and read(2) of it in the main thread.
//!
//! # Limits
//!
//! One descriptor per client, and four per loop, in `shared` three (EMFILE at
//! RLIMIT_NOFILE, which applies to all loops together); at most 1024 loops. The
//! accept queue of each listener holds up to `--backlog` connections; in
//! `shared` all loops have one, and its lock. An idle client costs an eighth
//! of a KiB here (`cargo xtask compare --full`, x86-64), and in the kernel as
//! much as with epoll.
//!
//! A client on a busy loop waits there while other loops sleep, and no loop
//! takes it over. The hash of `reuseport` ignores load, so a new client may
//! come to a busy loop, and a few clients may pile up on one: four clients on
//! four loops are spread evenly in 4! of 4^4 cases, 9 %. In `shared` a new
//! client comes to an idle loop, but clients that connect while all are idle,
//! and become busy later, are all on one. At `--max-connections` a loop may
//! reject a new client although a client of another loop has left, because that
//! loop has not noticed it yet.
//!
//! # When to use it
//!
//! For many short requests from many clients, if one core is not enough and the
//! clients do not depend on each other. If some clients are much busier than
//! others, use `task-per-connection`, which moves work to idle threads.
//!
//! `reuseport` is right for many connections that stay, because the hash gives
//! each loop about as many. `shared` is right for short ones, which rarely wait
//! for a busy loop while another is idle: only if that loop accepted them in
//! the same round.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, one loop and no other thread; `acceptor-and-loops`,
//! where one thread accepts and chooses the loop; `task-per-connection`, where
//! the threads share all clients; `thread-per-connection`, where the scheduler
//! divides the work.
//!
//! # References
//!
//! - socket(7), SO_REUSEPORT; M. Kerrisk, The SO_REUSEPORT socket option, LWN,
//!   2013.
//! - UNP, section 30.11: threads that share one listener, for comparison.
//! - TLPI, section 63.4: epoll.
//! - epoll_ctl(2), EPOLLEXCLUSIVE; M. Majkowski, Why does one NGINX worker take
//!   all the load?, Cloudflare, 2017.
//! - docs/CLAIMS.md: accept-herd, edge-new-data, loops-share-connections.

mod accept;
mod acceptor;
mod connection;
mod cores;
mod datagrams;
mod drain;
mod listener;
mod policies;
mod queues;
mod readiness;
mod shared;
mod sockets;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::mem;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use slotmap::{DefaultKey, Key as _, KeyData, SlotMap};

use common::limits::{ACCEPT_BACKOFF, ACK_POLL_INTERVAL};
use common::{About, Clients, Config, Model, Timers};

use connection::{Connection, Outcome, Scratch, is_peer_error};
use cores::{Cores, Flags};
use datagrams::Datagrams;
use drain::Supervisor;
use listener::Listener;
use readiness::{READABLE, read_policy, reasons};
use shared::Shared;
use sockets::{Bound, Sockets};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token of mio must hold a connection's key, which is 64 bits");

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

/// The most events that one wait returns; the next one returns the others. An
/// event has 12 bytes on x86-64, 16 on other 64-bit processors (EPOLL_PACKED in
/// include/uapi/linux/eventpoll.h).
const EVENTS_PER_WAIT: usize = 1024;

/// The tokens of the descriptors that are not connections. A connection's key
/// is larger, because its upper half, the version, is never zero.
const LISTENER: Token = Token(0);
const SHUTDOWN: Token = Token(1);
const DATAGRAMS: Token = Token(2);

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(config, flags))
}

/// The main thread: starts the loops and supervises them.
fn serve(config: Config, flags: Flags) -> Result<()> {
    let mut supervisor = Supervisor::new()?;
    let cores = Cores::allowed()?;
    let loops = flags.loops.unwrap_or(cores.count());
    let bound = Bound::new(&config, flags.accept, loops)?;
    let shared = Shared::new(config, flags.accept, loops)?;
    // Leaked, because the loops use it until the process ends.
    let shared: &Shared = Box::leak(Box::new(shared));
    for (number, (sockets, shutdown)) in (0..).zip(bound.per_loop) {
        // A new thread inherits its creator's affinity (sched_setaffinity(2)).
        cores.pin(number)?;
        let work = move || run(Server::new(shared, number, sockets));
        supervisor.start(number, shutdown, work)?;
    }
    cores.unpin()?;
    common::announce(bound.tcp, bound.udp)?;
    supervisor.wait(bound.shared)
}

/// Runs the loop of `multiplexing-epoll/edge`, on a thread of its own.
/// Returns how many connections are left when the drain ends.
fn run(mut server: Server<'_>) -> Result<usize> {
    let mut events = Events::with_capacity(EVENTS_PER_WAIT);
    while !server.has_finished() {
        let timeout = server.timeout();
        wait(&mut server.poll, &mut events, timeout)?;
        server.now = Instant::now();
        for event in &events {
            match event.token() {
                LISTENER => server.note_new_clients(),
                SHUTDOWN => server.begin_drain(),
                DATAGRAMS => server.on_datagrams(),
                Token(key) => {
                    let key = KeyData::from_ffi(key as u64).into();
                    server.handle_event(key, reasons(event));
                }
            }
        }
        server.run_ready_list();
        server.close_timed_out();
        server.close_acknowledged();
        server.accept_pending()?;
    }
    Ok(server.connections.len())
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    shared: &'a Shared,
    number: u32,
    poll: Poll,
    /// `None` once shutdown was requested.
    listener: Option<Listener>,
    datagrams: Option<Datagrams>,
    /// A key is never used twice, so a stale event finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers,
    /// The ready list: connections that may have more to read, which no further
    /// edge reports.
    ready: BTreeSet<DefaultKey>,
    /// When to look for new clients or datagrams, which no further edge
    /// reports.
    new_clients_at: Option<Instant>,
    datagrams_at: Option<Instant>,
    scratch: Scratch,
    about: About,
    now: Instant,
    /// The end of the drain, once shutdown was requested.
    drain_until: Option<Instant>,
}

impl<'a> Server<'a> {
    fn new(shared: &'a Shared, number: u32, sockets: Sockets) -> Self {
        let about = About::new(MODEL.name, shared.accept.name());
        Self {
            config: &shared.config,
            shared,
            number,
            poll: sockets.poll,
            listener: sockets.listener,
            datagrams: sockets.datagrams.map(Datagrams::new),
            connections: SlotMap::new(),
            timers: Timers::new(shared.config.idle_timeout),
            ready: BTreeSet::new(),
            new_clients_at: None,
            datagrams_at: None,
            scratch: Scratch::new(),
            about: About { event_loop: Some(number), ..about },
            now: Instant::now(),
            drain_until: None,
        }
    }

    /// Returns how long to wait: not at all while the ready list has entries.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let ack_poll = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments = [
            self.timers.next(),
            self.new_clients_at,
            self.datagrams_at,
            self.drain_until,
            ack_poll,
        ];
        let until = moments.into_iter().flatten().min()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Registers a connection with mio for reading, urgent data and writing,
    /// once, because a missed edge is not repeated.
    fn register(&mut self, key: DefaultKey) -> nix::Result<()> {
        let stream = &self.connections[key].stream;
        let token = Token(key.data().as_ffi() as usize);
        let all = READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut SourceFd(&stream.as_raw_fd()), token, all)
            .map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found.
    fn handle_event(&mut self, key: DefaultKey, reasons: Interest) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.about.counters.clients = self.shared.clients() as u64;
        let mut outcome = Ok(Outcome::Drained);
        // A new socket is reported writable at once, so that is ignored.
        if reasons.is_writable() && connection.has_output() {
            outcome = connection.on_writable();
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && reasons.is_readable() {
            outcome = connection.on_readable(
                read_policy(reasons),
                &mut self.scratch,
                &mut self.about,
            );
        }
        self.apply_outcome(key, outcome);
    }

    /// Handles each connection in the ready list once before the next wait, so
    /// that busy clients and the others take turns.
    fn run_ready_list(&mut self) {
        for key in mem::take(&mut self.ready) {
            self.handle_event(key, READABLE);
        }
        if self.datagrams_at.is_some_and(|at| at <= self.now) {
            self.on_datagrams();
        }
    }

    /// Acts on the outcome of an event: closes the connection, or watches it
    /// for what it needs next.
    fn apply_outcome(
        &mut self,
        key: DefaultKey,
        outcome: nix::Result<Outcome>,
    ) {
        let connection = &mut self.connections[key];
        match outcome {
            Ok(Outcome::Ended) => return self.close(key),
            Err(errno) if is_peer_error(errno) => return self.close(key),
            Err(errno) => return self.fail(key, errno),
            Ok(Outcome::More) => {
                self.ready.insert(key);
            }
            Ok(Outcome::Drained) => {}
        }
        if let Some(timeout) = connection.timeout.take() {
            self.timers.start(key, timeout, Instant::now());
        }
    }

    fn on_datagrams(&mut self) {
        let Some(datagrams) = &mut self.datagrams else { return };
        self.about.counters.clients = self.shared.clients() as u64;
        self.datagrams_at = match datagrams.on_readable(&mut self.about) {
            Ok(Outcome::More) => Some(self.now),
            Ok(_) => None,
            // For lack of memory. Retrying at once would spin.
            Err(_) => Some(self.now + ACCEPT_BACKOFF),
        };
    }

    /// Closes a connection. That removes its socket from the interest list too,
    /// because no other descriptor refers to it.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key);
            // Before the stream is closed, because the client may then connect
            // again at once, to another loop.
            self.shared.release();
            drop(connection);
            // A descriptor is free now, so accepting may go on.
            self.new_clients_at = self.new_clients_at.map(|_| self.now);
        }
    }
}

/// Waits for events, for up to `timeout`. A signal may end the wait without an
/// event.
fn wait(
    poll: &mut Poll,
    events: &mut Events,
    timeout: Option<Duration>,
) -> Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        ended => ended.context("epoll_wait"),
    }
}
