//! **One event loop for each core**: the loop of `multiplexing-epoll/edge`, as
//! many of them at a time as there are cores, with nothing between them.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!      loop 0   loop 1                       |
//!        |        |    epoll_wait            |
//!        |        |------------------------->|  nothing has arrived
//!     asleep   asleep                        |  phase 1: waiting for data
//!        :        :                          |  a client connects; a hash of
//!        :        :                          |  both ends' addresses and ports
//!        :        |<-------------------------|  makes it loop 1's
//!        :        |    accept4, epoll_ctl    |
//!        :        :                          |  a segment arrives
//!        :        |<-------------------------|
//!        :        |    recv(stream)          |
//!        :        |------------------------->|  phase 2: copying it
//!        :        |<-------------------------|
//!        :        |    the number of bytes   |
//!     asleep   answers, sends, and waits again
//! ```
//!
//! A loop is a thread pinned to a core, with a listener, a datagram socket, an
//! epoll set and buffers of its own. The listeners have one address: the
//! kernel gives each client to one of them (SO_REUSEPORT), so the loops divide
//! the work without a word to one another, and a client stays where it came.
//! A client's datagrams too are always the same loop's. The loops share the
//! number of clients, for `--max-connections`, and the descriptor in reserve,
//! both of them atomic: no loop ever waits for another.
//!
//! The main thread serves nobody, so N loops are N + 1 threads. It waits for
//! signals, which it hears however busy the loops are, and for a loop that
//! ends: the kernel would go on giving clients to a listener that nobody looks
//! at, so the death of one loop is the end of the process.
//!
//! mio is epoll by a name that it shares with what other systems have (kqueue,
//! I/O completion ports). It registers every source edge-triggered, so what
//! has more than its share is remembered here: connections in `ready`,
//! listener and datagrams with the moment to look again. It returns
//! EINTR as it is, and does no I/O.
//!
//! # System calls
//!
//! epoll_create1(2), epoll_ctl(2), epoll_wait(2) and eventfd(2), through mio;
//! fcntl(2) (O_NONBLOCK), accept4(2), recv(2), send(2), shutdown(2), ioctl(2)
//! (tcp(7)); for datagrams recvfrom(2) and sendto(2); setsockopt(2) for
//! SO_REUSEPORT; clone3(2), through pthread_create(3), sched_getaffinity(2) and
//! sched_setaffinity(2) for the loops; signalfd(2) and read(2) of it in the
//! main thread.
//!
//! # Limits
//!
//! One descriptor per client, and four per loop (EMFILE at RLIMIT_NOFILE,
//! which the loops have together); at most 1024 loops. Each listener has an
//! accept queue of its own, `--backlog` long. An idle client costs a quarter of
//! a KiB here (`cargo xtask memory loop-per-core`, x86-64), and in the kernel
//! what it costs with epoll.
//!
//! The hash knows nothing of load. A client that comes to a busy loop waits
//! there while the others sleep, and nobody takes it over; of few clients
//! many may be one loop's (four on four loops are all apart in 4! of 4^4
//! cases, 9 %). At `--max-connections`, a new client to one loop is refused
//! though another is about to notice that a client has left.
//!
//! # When to use it
//!
//! For many short requests from many clients, where one core is not enough
//! and the clients need nothing of each other. Where some clients are much
//! busier than others, `task-per-connection` moves the work to who is idle.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, one loop and no other thread; `task-per-connection`,
//! where the threads share all clients; `thread-per-connection`, where the
//! scheduler divides the work.

mod accept;
mod acceptor;
mod connection;
mod cores;
mod datagrams;
mod drain;
mod policies;
mod queues;
mod shared;
mod sockets;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use slotmap::{DefaultKey, Key as _, KeyData, SlotMap};

use common::limits::{ACCEPT_BACKOFF, ACK_POLL_INTERVAL, READ_BUDGET};
use common::{About, Clients, Config, Model, Timers};

use connection::{Connection, Outcome, ReadPolicy, Scratch, is_peer_error};
use cores::{Cores, Flags};
use datagrams::Datagrams;
use drain::Supervisor;
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

/// What mio hands back for the sources that are no connection. A key of a
/// connection is larger: its upper half, the version, is never zero.
const LISTENER: Token = Token(0);
const SHUTDOWN: Token = Token(1);
const DATAGRAMS: Token = Token(2);

/// What a visit takes: all there is, up to its share of the loop's time. Only
/// EAGAIN says that this was all.
const READ_POLICY: ReadPolicy =
    ReadPolicy { budget: READ_BUDGET, drained_below: 0 };

/// A reason to visit a connection that mio has not reported.
const READABLE: Interest = Interest::READABLE;

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(config, flags.loops))
}

/// The main thread: starts the loops, and sees to it that they end as asked.
fn serve(config: Config, loops: Option<u32>) -> Result<()> {
    let mut supervisor = Supervisor::new()?;
    let cores = Cores::allowed()?;
    let loops = loops.unwrap_or(cores.count());
    let bound = Bound::new(&config, loops)?;
    // The loops have it until there is no process any more.
    let shared: &Shared = Box::leak(Box::new(Shared::new(config, loops)?));
    for (number, (sockets, shutdown)) in (0..).zip(bound.shares) {
        // A thread may run where its creator may.
        cores.pin(number)?;
        let work = move || run(Server::new(shared, number, sockets));
        supervisor.start(number, shutdown, work)?;
    }
    cores.unpin()?;
    common::announce(bound.tcp, bound.udp)?;
    supervisor.wait()
}

/// A loop, on its thread: what `multiplexing-epoll` is as a whole. Returns how
/// many clients a stop has cut off.
fn run(mut server: Server<'_>) -> Result<usize> {
    let mut events = Events::with_capacity(EVENTS_PER_WAIT);
    while !server.has_finished() {
        let timeout = server.timeout();
        poll(&mut server.poll, &mut events, timeout)?;
        server.now = Instant::now();
        for event in &events {
            match event.token() {
                LISTENER => server.accept_pending(),
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
        server.take_new_clients()?;
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
    listener: Option<OwnedFd>,
    datagrams: Option<Datagrams>,
    /// A key is never used twice, so a stale event finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers<DefaultKey>,
    /// The ready list: connections that may have more to read, which no further
    /// edge reports.
    ready: BTreeSet<DefaultKey>,
    /// When to look for new clients, or datagrams, which no edge will tell.
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
        let about = About::new(MODEL.name, "");
        Self {
            config: &shared.config,
            shared,
            number,
            poll: sockets.poll,
            listener: sockets.listener,
            datagrams: sockets.datagrams.map(Datagrams::new),
            connections: SlotMap::new(),
            timers: Timers::new(),
            ready: BTreeSet::new(),
            new_clients_at: None,
            datagrams_at: None,
            scratch: Scratch::new(),
            about: About { event_loop: Some(number), ..about },
            now: Instant::now(),
            drain_until: None,
        }
    }

    /// How long to wait: not at all while a socket is known to have more.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let look = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments = [
            self.timers.next(),
            self.new_clients_at,
            self.datagrams_at,
            self.drain_until,
            look,
        ];
        let until = moments.into_iter().flatten().min()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Has mio watch a connection, for everything, once and for all: an edge
    /// that nobody listened to would not come again.
    fn register(&mut self, key: DefaultKey) -> nix::Result<()> {
        let stream = &self.connections[key].stream;
        let token = Token(key.data().as_ffi() as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut SourceFd(&stream.as_raw_fd()), token, both)
            .map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found.
    fn handle_event(&mut self, key: DefaultKey, reasons: Interest) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.about.counters.clients = self.shared.clients() as u64;
        let mut outcome = Ok(Outcome::Drained);
        // A new socket is writable, which is no news.
        if reasons.is_writable() && connection.has_output() {
            outcome = connection.on_writable(self.now);
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && reasons.is_readable() {
            outcome = connection.on_readable(
                READ_POLICY,
                &mut self.scratch,
                &mut self.about,
                self.now,
            );
        }
        self.apply_outcome(key, outcome);
    }

    /// What is known to have more is visited before the next wait, each once,
    /// so that a busy client and the others take turns.
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
        self.timers.schedule(key, &mut connection.timer);
    }

    fn on_datagrams(&mut self) {
        let Some(datagrams) = &mut self.datagrams else { return };
        self.about.counters.clients = self.shared.clients() as u64;
        self.datagrams_at = match datagrams.on_readable(&mut self.about) {
            Ok(Outcome::More) => Some(self.now),
            Ok(_) => None,
            // Memory is short: not at once, or it would spin.
            Err(_) => Some(self.now + ACCEPT_BACKOFF),
        };
    }

    /// Closes a connection. That removes its socket from the interest list too,
    /// because no other descriptor refers to it.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            // Before the stream is closed: who sees that may come again at
            // once, to another loop.
            self.shared.release();
            // A descriptor is free now, so accepting may go on.
            self.new_clients_at = self.new_clients_at.map(|_| self.now);
        }
    }
}

/// Waits until something is ready, or for so long; a signal may end the wait
/// before there is anything.
fn poll(
    poll: &mut Poll,
    events: &mut Events,
    timeout: Option<Duration>,
) -> Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        ended => ended.context("epoll_wait"),
    }
}

/// What to try on a connection. An error or a hang-up counts as both: the next
/// call says which it is.
fn reasons(event: &Event) -> Interest {
    let both = Interest::READABLE | Interest::WRITABLE;
    match (event.is_readable(), event.is_writable()) {
        _ if event.is_error() || event.is_write_closed() => both,
        (true, true) => both,
        (false, true) => Interest::WRITABLE,
        (_, false) => Interest::READABLE,
    }
}
