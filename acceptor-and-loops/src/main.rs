//! **One acceptor and several event loops**: one thread accepts, and hands each
//! client to one of the loops. Other names for it are main reactor and sub
//! reactors, or boss and workers.
//!
//! # How it works
//!
//! `examples/minimal.rs` and `examples/minimal_processes.rs` are the two
//! variants alone. In `threads`, the default:
//!
//! ```text
//!      application                         kernel
//!      main     loop 0                       |
//!        |        |    epoll_wait            |
//!        |        |------------------------->|  nothing has arrived
//!     asleep   asleep                        |  a client connects
//!        |<----------------------------------|
//!        |  accept4; the client goes to      |
//!        |  loop 0's queue                   |
//!        |  write(eventfd), epoll_wait       |
//!        |---------------------------------->|  the eventfd is readable
//!     asleep      |<-------------------------|
//!        :        |    epoll_ctl(stream),    |
//!        :        |    epoll_wait            |
//!        :        |------------------------->|  phase 1: waiting for data
//!        :     asleep                        |  a segment arrives
//!        :        |<-------------------------|
//!        :        |    recv(stream)          |
//!        :        |------------------------->|  phase 2: copying it
//!        :        |<-------------------------|
//!        :        |    the number of bytes   |
//!     asleep   answers, sends, and waits again
//! ```
//!
//! There is one listener, and one accept queue. The main thread (`acceptor.rs`)
//! has no clients: it accepts, chooses a loop, and waits for signals. Each loop
//! is that of `loop-per-core`, with an epoll instance and clients of its own. A
//! client stays with its loop. `--hand-over` sets which loop gets the next
//! client: each in turn, or the one with the fewest clients.
//!
//! A client is not on the loop's interest list while it waits in the queue. Its
//! input is not missed: when a socket is added, epoll looks whether it is
//! ready, also for an edge-triggered registration (fs/eventpoll.c, ep_insert).
//!
//! In `threads` the queue is a deque behind a lock, and an eventfd(2) in the
//! loop's interest list wakes the loop (`hand_over.rs`). A loop is woken only
//! for the first client in an empty queue, and takes clients until it finds the
//! queue empty.
//!
//! In `processes` each loop is a child process, forked before its first client.
//! The parent accepts, and sends the descriptor over a pair of Unix sockets
//! (SCM_RIGHTS, unix(7)). The child gets a descriptor of its own for the same
//! open file description; the parent closes its copy, or the client would never
//! get end of file. The loop's end of the pair is in its interest list, so the
//! kernel keeps the queue, and wakes the loop.
//!
//! A loop process that dies takes its clients with it, and those in its queue,
//! and no others: they see end of file, or a reset if they had sent something
//! that was not read. The parent reaps it and forks another one
//! (`processes.rs`), but not within a second of the last start, so that a loop
//! that dies at its start does not keep the machine busy. Its number of clients
//! is in memory that all processes share (`shared.rs`), and is set to zero. If
//! a thread ends unexpectedly, the server does, as in `loop-per-core`.
//!
//! A hand-over costs more than accepting in the loop: a second thread runs for
//! each connection, and a write(2) to the eventfd or a sendmsg(2) with a
//! recvmsg(2). After that the acceptor has no part in the conversation.
//! In return, compared with SO_REUSEPORT, the program chooses the loop, so a
//! few clients are spread evenly, too. Connections that are not accepted yet
//! wait in one queue for all loops, and none is lost because a loop closes its
//! listener.
//!
//! # System calls
//!
//! accept4(2) in the acceptor; epoll_create1(2), epoll_ctl(2), epoll_wait(2)
//! and eventfd(2), through mio; write(2) to the eventfd, or socketpair(2),
//! sendmsg(2) and recvmsg(2); fcntl(2) (O_NONBLOCK), recv(2), send(2),
//! shutdown(2), ioctl(2) (tcp(7)); for datagrams recvfrom(2), sendto(2) and
//! setsockopt(2); mmap(2) for the numbers of clients; sched_getaffinity(2) and
//! sched_setaffinity(2) for the loops; signalfd(2) and read(2) of it. In
//! `threads` clone3(2), through pthread_create(3); in `processes` fork(2),
//! prctl(2), waitpid(2) and kill(2).
//!
//! # Limits
//!
//! One descriptor per client, and two per loop (EMFILE at RLIMIT_NOFILE); at
//! most 1024 loops. In `processes` each loop has a table of descriptors of its
//! own; by default there are no more clients than one of them holds. An idle
//! client costs as much as in `loop-per-core`.
//!
//! One thread accepts, so the number of new connections per second does not
//! grow with the number of loops.
//!
//! Up to 64 clients wait in a loop's queue. A loop whose queue is full is left
//! out, so the loops get equal numbers only while no queue is full. If all are
//! full, the acceptor waits until a loop takes a client, and further clients
//! stay in the accept queue, where they use no descriptor.
//!
//! The hand-over looks at numbers of clients, not at how busy they are. A
//! client in the queue of a loop that is held up waits there while other loops
//! sleep.
//!
//! Datagrams are as in `loop-per-core`: each loop has a socket with
//! SO_REUSEPORT, and the kernel picks one. While a loop process is being
//! replaced, its datagrams wait in the socket, which the parent keeps open.
//!
//! # When to use it
//!
//! When connections live long and are few, or of very different lengths, so
//! that a hash would spread them badly. `processes` also when a crash must not
//! take all clients with it. For very many short connections, use
//! `loop-per-core`.
//!
//! # Compare with
//!
//! `loop-per-core`, where the kernel spreads the connections; `worker-pool`,
//! whose variant `queue` hands clients over to threads that serve one at a
//! time; `task-per-connection`, where a client may move to an idle thread.
//!
//! # References
//!
//! - UNP, sections 30.9 (descriptor passing to preforked children) and 30.12
//!   (the main thread accepts); 15.7 on passing descriptors.
//! - TLPI, sections 61.13.3 (passing file descriptors) and 63.4 (epoll).
//! - D. C. Schmidt, Reactor, 1995.
//! - unix(7), cmsg(3), eventfd(2), socketpair(2).
//! - docs/CLAIMS.md: accept-herd, edge-new-data, loops-share-connections.

mod accept;
mod acceptor;
mod connection;
mod cores;
mod datagrams;
mod drain;
mod hand_over;
mod new_clients;
mod policies;
mod processes;
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

use acceptor::Acceptor;
use connection::{Connection, Outcome, Scratch, is_peer_error};
use cores::{Cores, Flags, Kind};
use datagrams::Datagrams;
use drain::Supervisor;
use hand_over::Inbox;
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
const NEW_CLIENTS: Token = Token(0);
const DATAGRAMS: Token = Token(1);

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(config, flags))
}

/// The main thread: starts the loops, accepts clients and hands them over.
fn serve(config: Config, flags: Flags) -> Result<()> {
    let cores = Cores::allowed()?;
    let loops = flags.loops.unwrap_or(cores.count());
    let bound = Bound::new(&config, loops)?;
    if flags.kind == Kind::Processes {
        return processes::serve(config, flags, cores, bound);
    }
    let signals = drain::signals()?;
    let (mut sockets, mut outboxes) = (Vec::new(), Vec::new());
    for datagrams in bound.datagrams {
        let (own, outbox) = Sockets::watched(flags.kind, datagrams)?;
        sockets.push(own);
        outboxes.push(outbox);
    }
    let acceptor =
        Acceptor::new(config, flags, signals, bound.listener, outboxes)?;
    let shared = acceptor.shared;
    let mut supervisor = Supervisor::new(acceptor);
    for (number, sockets) in sockets.into_iter().enumerate() {
        // A new thread inherits its creator's affinity (sched_setaffinity(2)).
        cores.pin(number)?;
        let work = move || run(Server::new(shared, number, sockets));
        supervisor.start(number, work)?;
    }
    cores.unpin()?;
    common::announce(bound.tcp, bound.udp)?;
    supervisor.wait()
}

/// Runs the loop of `multiplexing-epoll/edge`, on a thread of its own or in a
/// process. Returns how many connections are left when the drain ends.
fn run(mut server: Server<'_>) -> Result<usize> {
    let mut events = Events::with_capacity(EVENTS_PER_WAIT);
    while !server.has_finished() {
        let timeout = server.timeout();
        wait(&mut server.poll, &mut events, timeout)?;
        server.now = Instant::now();
        for event in &events {
            match event.token() {
                NEW_CLIENTS => server.note_new_clients(),
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
        server.take_pending()?;
    }
    Ok(server.connections.len())
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    shared: &'a Shared,
    number: usize,
    poll: Poll,
    /// `None` once shutdown was requested.
    inbox: Option<Inbox>,
    datagrams: Option<Datagrams>,
    /// A key is never used twice, so a stale event finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers,
    /// The ready list: connections that may have more to read, which no further
    /// edge reports.
    ready: BTreeSet<DefaultKey>,
    /// When to look into the queue of new clients, or for datagrams, which no
    /// further edge reports.
    new_clients_at: Option<Instant>,
    datagrams_at: Option<Instant>,
    scratch: Scratch,
    about: About,
    now: Instant,
    /// The end of the drain, once shutdown was requested.
    drain_until: Option<Instant>,
}

impl<'a> Server<'a> {
    fn new(shared: &'a Shared, number: usize, sockets: Sockets) -> Self {
        let about = About::new(MODEL.name, shared.variant);
        Self {
            config: &shared.config,
            shared,
            number,
            poll: sockets.poll,
            inbox: Some(sockets.inbox),
            datagrams: sockets.datagrams.map(Datagrams::new),
            connections: SlotMap::new(),
            timers: Timers::new(shared.config.idle_timeout),
            ready: BTreeSet::new(),
            new_clients_at: None,
            datagrams_at: None,
            scratch: Scratch::new(),
            about: About { event_loop: Some(number as u32), ..about },
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
        self.shared.report(&mut self.about.counters);
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
        self.shared.report(&mut self.about.counters);
        self.datagrams_at = match datagrams.on_readable(&mut self.about) {
            Ok(Outcome::More) => Some(self.now),
            Ok(_) => None,
            // For lack of memory. Retrying at once would spin.
            Err(_) => Some(self.now + ACCEPT_BACKOFF),
        };
    }

    /// Closes a connection. That removes its socket from the interest list too,
    /// because no other descriptor refers to it. (The acceptor of `processes`
    /// closes its copy as soon as it is sent.)
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key);
            // Before the stream is closed, because the client may then connect
            // again at once.
            self.shared.release(self.number);
            drop(connection);
            // A descriptor is free now, so accepting may go on.
            self.shared.resume_acceptor();
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
