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
//! cases, 9 %). At `--max-connections`, a newcomer to one loop is refused
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
mod connection;
mod cores;
mod datagrams;
mod newcomers;
mod queues;
mod shared;
mod sockets;
mod stop;

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

use common::limits::{DELIVERY_LOOK, READ_BUDGET, SHORTAGE_PAUSE};
use common::{About, Cause, Clients, Config, Deadlines, Model, notice};

use connection::{Connection, Progress, Scratch, Share, is_the_clients};
use cores::{Cores, Flags};
use datagrams::Datagrams;
use shared::Shared;
use sockets::{Bound, Sockets};
use stop::Supervisor;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token of mio must hold a connection's key, which is 64 bits");

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

/// Events returned by one wait; the others come with the next. An event has 12
/// bytes on x86-64, 16 on other 64-bit processors (EPOLL_PACKED in
/// include/uapi/linux/eventpoll.h).
const EVENTS_PER_WAIT: usize = 1024;

/// What mio hands back for the sources that are no connection. A key of a
/// connection is larger: its upper half, the version, is never zero.
const LISTENER: Token = Token(0);
const STOP: Token = Token(1);
const DATAGRAMS: Token = Token(2);

/// What a visit takes: all there is, up to its share of the loop's time. Only
/// EAGAIN says that this was all.
const SHARE: Share = Share { budget: READ_BUDGET, full: 0 };

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
    for (number, (sockets, stop)) in (0..).zip(bound.shares) {
        // A thread may run where its creator may.
        cores.pin(number)?;
        let work = move || run(Server::new(shared, number, sockets));
        supervisor.start(number, stop, work)?;
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
                LISTENER => server.on_connected(),
                STOP => server.on_stop(),
                DATAGRAMS => server.on_datagrams(),
                Token(key) => {
                    let key = KeyData::from_ffi(key as u64).into();
                    server.visit(key, reasons(event));
                }
            }
        }
        server.visit_ready();
        server.close_overdue();
        server.close_delivered();
        server.take_newcomers()?;
    }
    Ok(server.connections.len())
}

/// The loop's state. One thread has it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    shared: &'a Shared,
    number: u32,
    poll: Poll,
    /// `None` once a stop was asked for.
    listener: Option<OwnedFd>,
    datagrams: Option<Datagrams>,
    /// A key is never used twice, so an event that comes late finds nothing.
    connections: SlotMap<DefaultKey, Connection>,
    deadlines: Deadlines<DefaultKey>,
    /// Connections that may have more to read, which no edge will tell.
    ready: BTreeSet<DefaultKey>,
    /// When to look for newcomers, or datagrams, which no edge will tell.
    newcomers_at: Option<Instant>,
    datagrams_at: Option<Instant>,
    scratch: Scratch,
    about: About,
    now: Instant,
    /// Set by a stop: conversations have so long.
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
            deadlines: Deadlines::new(),
            ready: BTreeSet::new(),
            newcomers_at: None,
            datagrams_at: None,
            scratch: Scratch::new(),
            about: About { event_loop: Some(number), ..about },
            now: Instant::now(),
            drain_until: None,
        }
    }

    /// True when a stop was asked for and nobody is left, or time is up.
    fn has_finished(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            self.connections.is_empty() || until <= Instant::now()
        })
    }

    /// How long to wait: not at all while a socket is known to have more.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let look = self.drain_until.map(|_| self.now + DELIVERY_LOOK);
        let moments = [
            self.deadlines.next(),
            self.newcomers_at,
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

    /// Visits a connection. One that was closed since it was reported is not
    /// found.
    fn visit(&mut self, key: DefaultKey, reasons: Interest) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.about.counters.clients = self.shared.clients() as u64;
        let mut progress = Ok(Progress::Drained);
        // A new socket is writable, which is no news.
        if reasons.is_writable() && connection.has_output() {
            progress = connection.on_writable(self.now);
        }
        let over = matches!(progress, Ok(Progress::Ended) | Err(_));
        if !over && reasons.is_readable() {
            progress = connection.on_readable(
                SHARE,
                &mut self.scratch,
                &mut self.about,
                self.now,
            );
        }
        self.settle(key, progress);
    }

    /// What is known to have more is visited before the next wait, each once,
    /// so that a busy client and the others take turns.
    fn visit_ready(&mut self) {
        for key in mem::take(&mut self.ready) {
            self.visit(key, READABLE);
        }
        if self.datagrams_at.is_some_and(|at| at <= self.now) {
            self.on_datagrams();
        }
    }

    /// Draws the consequences of a visit.
    fn settle(&mut self, key: DefaultKey, progress: nix::Result<Progress>) {
        let connection = &mut self.connections[key];
        match progress {
            Ok(Progress::Ended) => return self.close(key),
            Err(errno) if is_the_clients(errno) => return self.close(key),
            Err(errno) => return self.fail(key, errno),
            Ok(Progress::More) => {
                self.ready.insert(key);
            }
            Ok(Progress::Drained) => {}
        }
        self.deadlines.watch(key, &mut connection.deadline);
    }

    fn on_datagrams(&mut self) {
        let Some(datagrams) = &mut self.datagrams else { return };
        self.about.counters.clients = self.shared.clients() as u64;
        self.datagrams_at = match datagrams.on_readable(&mut self.about) {
            Ok(Progress::More) => Some(self.now),
            Ok(_) => None,
            // Memory is short: not at once, or it would spin.
            Err(_) => Some(self.now + SHORTAGE_PAUSE),
        };
    }

    /// Closes those whose time is up, silently, after a last look: a request
    /// may have come in time and still wait to be taken.
    fn close_overdue(&mut self) {
        while let Some(key) = self.deadlines.pop(self.now) {
            if self.connections[key].deadline.has_passed(self.now) {
                self.visit(key, READABLE);
            }
            match self.connections.get_mut(key) {
                Some(late) if late.deadline.has_passed(self.now) => {
                    self.close(key);
                }
                Some(other) => self.deadlines.rewatch(key, &mut other.deadline),
                None => {}
            }
        }
    }

    /// Ends a conversation that failed in a way no client can cause.
    fn fail(&mut self, key: DefaultKey, errno: Errno) {
        notice(
            Cause::Conversation,
            format_args!("a conversation failed: {errno}"),
        );
        self.close(key);
    }

    /// Closing the only descriptor of a socket takes it out of the set too.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.deadlines.forget(key, &connection.deadline);
            // Before the stream is closed: who sees that may come again at
            // once, to another loop.
            self.shared.leave();
            // There may be a descriptor for a newcomer now.
            self.newcomers_at = self.newcomers_at.map(|_| self.now);
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
