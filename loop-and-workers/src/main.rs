//! **One epoll instance and a pool of workers**: the loop of
//! `multiplexing-epoll`, and a fixed number of threads that process the
//! requests. A request that takes long holds up its own client only.
//!
//! # How it works
//!
//! `examples/minimal.rs` is `compute` alone, and `examples/minimal_io.rs` is
//! `io`. In `compute` one thread does all the I/O:
//!
//! ```text
//!      application                         kernel
//!     loop     worker                        |
//!       |        |    epoll_wait             |
//!       |--------+-------------------------->|  nothing has arrived
//!    asleep   asleep, in futex               |  phase 1: waiting for data
//!       :        :                           |  a segment arrives
//!       |<-------+---------------------------|
//!       |        :    recv(stream)           |
//!       |--------+-------------------------->|  phase 2: copying it
//!       |<-------+---------------------------|
//!       | a job  :    futex wakes the worker |
//!       |------->|                           |
//!       | waits  |  answers the request      |
//!       :        |                           |
//!       |<-------|    write(eventfd) wakes   |
//!       | result :    the loop               |
//!    sends    asleep                         |
//! ```
//!
//! A job is a client's input and its conversation: its half of the protocol,
//! and its pending output (`hand_over.rs`). The conversation moves into the job
//! and comes back with it. So a client has one job at a time, and nothing is
//! received from it meanwhile. That keeps its replies in order without a lock,
//! and it is back-pressure: what the client sends meanwhile stays in the
//! socket. The pattern is called half-sync/half-async: an asynchronous layer
//! for I/O, a queue, and a synchronous layer that may take its time.
//!
//! epoll is level-triggered here. While a worker has a client's conversation,
//! the loop does not read its socket, and each wait would report unread input.
//! So at the first such report the loop removes EPOLLIN from the interest. It
//! does so no earlier, because most clients send nothing before they have their
//! reply, and cost no epoll_ctl. EPOLLERR and EPOLLHUP can't be removed. On a
//! reset the connection is closed at once, and the result finds no connection.
//!
//! When the queue is full, clients that may have a request are put on a list,
//! each once. Their data stays in the sockets. Each result makes room for a
//! job.
//!
//! The results come back in a list, and an eventfd(2) wakes the loop. It is
//! written only if the list was empty, so the results of a busy pool share one
//! wake-up (`Queues::finish` says why none is lost).
//!
//! In `io` there is no hand-over (`io.rs`). All workers wait in epoll_wait(2)
//! of the same instance, and the one that gets an event receives, processes and
//! sends. EPOLLONESHOT disarms the socket with the report, so one worker at a
//! time has it; EPOLL_CTL_MOD re-arms it. An event wakes one worker, because
//! waiters are exclusive: the one that began to wait last (ep_poll in
//! fs/eventpoll.c adds it at the head of the queue; tried with Linux 6.18). A
//! worker asks for one event at a time, and the kernel wakes another for those
//! that are left (ep_done_scan there). The bookkeeping is behind one lock,
//! which no thread holds while it processes a stream's request. The main thread
//! has the signals and the timers. The pattern is called leader/followers; here
//! the kernel chooses the next leader.
//!
//! # System calls
//!
//! Those of `multiplexing-epoll`: fcntl(2) (O_NONBLOCK), epoll_create1(2),
//! epoll_ctl(2), epoll_wait(2), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) on it, ioctl(2) (tcp(7)), recvfrom(2), sendto(2).
//! And eventfd(2), write(2) and read(2) on it; futex(2), through Mutex and
//! Condvar; clone3(2), through pthread_create(3).
//!
//! # Limits
//!
//! As many requests are processed at a time as there are workers. If all are
//! busy, the requests of `compute` wait in the queue, and the loop still
//! accepts, receives and sends. In `io` they wait in their sockets, and no
//! thread accepts or sends until a worker is free. By default there is a worker
//! for each core, but two at least, because with one a slow request would hold
//! up all again. Requests that wait for something else than a core, such as a
//! database, require more workers than cores.
//!
//! The hand-over of `compute` has its price: a futex call, an eventfd write and
//! read, and two more context switches if the client waits for its reply. With
//! one client that makes three switches per request in place of one (ping-1 of
//! `cargo xtask compare --model loop-and-workers`); with 50 busy clients, 11 µs
//! of processor time per request in place of 6 (ping-50). In `io` a request
//! costs an epoll_ctl and an epoll_wait of its own, together 1 µs. One thread
//! does the I/O of `compute`, and one lock is around the bookkeeping of `io`,
//! so neither scales to many cores as separate loops do.
//!
//! A pool pays off where requests take longer than the hand-over, and there are
//! cores for them. On two cores, `compute` answers 46,000 requests per second
//! of 20 µs each, where one loop answers 30,000 (spin-20); of PING, 91,000 and
//! 161,000 (ping-50). Where 1 request in 100 sleeps for 10 ms, nine tenths of
//! the others take less than 0.1 ms instead of 5 (wait; docs/RESULTS.md).
//!
//! In `compute` up to 256 jobs beyond the workers' are in the queue, with 16
//! KiB of input each. A request that panics ends its client. A worker that
//! fails in another way ends the server, because its client would wait for
//! ever. An idle client has no worker and no buffer, only a descriptor and its
//! entries in the tables. One descriptor per client, and five or six for the
//! server (EMFILE at RLIMIT_NOFILE); fs.epoll.max_user_watches limits the
//! registrations (ENOSPC). Datagrams are answered at once: in `compute` by the
//! loop, in `io` by the worker that gets the event.
//!
//! # When to use it
//!
//! For many clients whose requests may compute, or call code that blocks, for
//! longer than the others should wait. `compute` if that code must not touch
//! sockets, or the thread that does the I/O must never block; `io` if receiving
//! and sending should use several cores too. If every request is short and one
//! core is enough, `multiplexing-epoll` costs less.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, which processes requests in the loop; `worker-pool`,
//! where a client keeps its worker until it leaves; `task-per-connection`,
//! whose library does the I/O as in `io`, with a queue of tasks per worker;
//! `loop-per-core`, where no request leaves its loop.
//!
//! # References
//!
//! - Schmidt and others, Pattern-Oriented Software Architecture (POSA), vol. 2:
//!   the patterns Reactor, Half-Sync/Half-Async, Leader/Followers.
//! - UNP, section 30.12: a pool of threads, to which the main thread passes
//!   clients.
//! - TLPI, section 63.4 (epoll); eventfd(2), epoll_ctl(2) (EPOLLONESHOT),
//!   pthread_cond_wait(3).
//! - docs/CLAIMS.md: level-repeats, edge-blocking-starves.

mod accept;
mod acceptor;
mod connection;
mod datagrams;
mod drain;
mod hand_over;
mod interest;
mod io;
mod jobs;
mod kind;
mod notice;
mod policies;
mod queues;
mod worker;

use std::mem;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;
use slotmap::{DefaultKey, Key as _, KeyData, SecondaryMap, SlotMap};

use common::limits::ACK_POLL_INTERVAL;
use common::{
    About, Clients, Config, ConnectionLimit, Model, SpareDescriptor, Timers,
};

use connection::{Connection, Outcome, is_peer_error};
use datagrams::Datagrams;
use interest::{new_epoll, watch};
use jobs::Jobs;
use kind::{Flags, Kind};
use notice::Notice;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

/// The most events that one wait returns; the next wait returns the others. An
/// event has 12 bytes on x86-64, 16 on other 64-bit processors (EPOLL_PACKED in
/// include/uapi/linux/eventpoll.h).
const EVENTS_PER_WAIT: usize = 1024;

/// The keys of the descriptors that are not connections. A connection's key is
/// larger, because its upper half, the version, is never zero. epoll returns
/// the key as the data of an event.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DATAGRAMS: u64 = 2;
const NOTICE: u64 = 3;

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(match flags.kind {
        Kind::Compute => serve(&config, flags.workers()),
        Kind::Io => io::serve(config, flags.workers()),
    })
}

fn serve(config: &Config, workers: usize) -> Result<()> {
    // The workers inherit which signals are blocked, so that comes first.
    let signals = drain::signals()?;
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let epoll = new_epoll()?;
    let notice = Arc::new(Notice::new()?);
    watch(&epoll, &signals, EpollFlags::EPOLLIN, SIGNALS)?;
    watch(&epoll, &notice, EpollFlags::EPOLLIN, NOTICE)?;
    let kind = Kind::Compute;
    let mut server =
        Server::new(config, kind, &epoll, signals, listener, socket)?;
    let mut jobs = Jobs::start(workers, &notice, &server.about)?;
    common::announce(tcp, udp)?;

    let mut events = [EpollEvent::empty(); EVENTS_PER_WAIT];
    while !server.has_finished() {
        let ready = match epoll.wait(&mut events, server.timeout()) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("epoll_wait"),
        };
        server.now = Instant::now();
        for event in &events[..ready] {
            match event.data() {
                LISTENER => server.accept_pending(acceptor::accepts(ready))?,
                SIGNALS => server.on_signal()?,
                DATAGRAMS => server.on_datagrams(),
                NOTICE => {
                    notice.clear()?;
                    server.on_results(&mut jobs);
                }
                key => {
                    let key = KeyData::from_ffi(key).into();
                    server.handle_event(key, event.events(), &mut jobs);
                }
            }
        }
        server.run_waiting_list(&mut jobs);
        server.close_timed_out();
        server.close_acknowledged();
        server.resume()?;
    }
    common::report_cut_off(server.connections.len());
    Ok(())
}

/// The state of the event loop. In `compute` one thread owns it, so nothing is
/// locked; in `io` a lock is around all of it.
struct Server<'a> {
    config: &'a Config,
    kind: Kind,
    epoll: &'a Epoll,
    signals: SignalFd,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    datagrams: Option<Datagrams>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    /// The keys are generational: unlike a descriptor, none is used twice, so
    /// the key of a stale event, or of a stale result, finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers,
    /// The connections in epoll's interest list.
    registrations: SecondaryMap<DefaultKey, Registration>,
    about: About,
    now: Instant,
    /// Accepting is paused until then, for lack of descriptors or memory.
    paused_until: Option<Instant>,
    /// The end of the drain, once shutdown was requested.
    drain_until: Option<Instant>,
}

impl<'a> Server<'a> {
    fn new(
        config: &'a Config,
        kind: Kind,
        epoll: &'a Epoll,
        signals: SignalFd,
        listener: Option<OwnedFd>,
        socket: Option<OwnedFd>,
    ) -> Result<Self> {
        // In `compute` these are level-triggered, like all others: a round
        // reads a limited number from each, then the connections get their
        // turn.
        let interest = EpollFlags::EPOLLIN | kind.mode();
        if let Some(listener) = &listener {
            watch(epoll, listener, interest, LISTENER)?;
        }
        if let Some(socket) = &socket {
            watch(epoll, socket, interest, DATAGRAMS)?;
        }
        Ok(Self {
            config,
            kind,
            epoll,
            signals,
            listener,
            datagrams: socket.map(Datagrams::new),
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(config, 1),
            connections: SlotMap::new(),
            registrations: SecondaryMap::new(),
            timers: Timers::new(config.idle_timeout),
            about: About::new(MODEL.name, kind.name()),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Returns how long to wait.
    fn timeout(&self) -> EpollTimeout {
        milliseconds(self.next_moment())
    }

    /// Returns when to act even if there is no event.
    fn next_moment(&self) -> Option<Instant> {
        let ack_poll = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, ack_poll];
        moments.into_iter().flatten().min()
    }

    /// Adds a connection to the interest list.
    fn register(&mut self, key: DefaultKey) -> nix::Result<()> {
        let connection = &self.connections[key];
        let interest = self.kind.interest(connection);
        self.registrations.insert(
            key,
            Registration { interest, is_waiting: false, is_late: false },
        );
        let event = EpollEvent::new(interest, key.data().as_ffi());
        self.epoll.add(&connection.stream, event)
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found. An error or a hang-up
    /// counts as readable and writable; the next call returns the errno.
    fn handle_event(
        &mut self,
        key: DefaultKey,
        events: EpollFlags,
        jobs: &mut Jobs,
    ) {
        let failure = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_waiting = self.registrations[key].is_waiting;
        let may_read = !connection.is_lent() && !is_waiting;
        // The client has reset the connection. The result of its job will find
        // no connection.
        if !may_read && events.intersects(failure) {
            return self.close(key);
        }
        let mut outcome = Ok(Outcome::Drained);
        if events.intersects(EpollFlags::EPOLLOUT | failure) {
            outcome = connection.flush_and_advance();
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && may_read && events.intersects(EpollFlags::EPOLLIN | failure)
        {
            // Those that wait already come first.
            if jobs.has_room() && jobs.waiting.is_empty() {
                return self.read(key, jobs);
            }
            self.wait_for_room(key, jobs);
        }
        self.apply_outcome(key, outcome);
    }

    /// Acts on the outcome of an event: closes the connection, or watches it
    /// for what it needs next.
    fn apply_outcome(
        &mut self,
        key: DefaultKey,
        outcome: nix::Result<Outcome>,
    ) {
        let connection = &mut self.connections[key];
        let registration = &mut self.registrations[key];
        match outcome {
            Ok(Outcome::Ended) => return self.close(key),
            Err(errno) if is_peer_error(errno) => return self.close(key),
            Err(errno) => return self.fail(key, errno),
            Ok(Outcome::Received(_) | Outcome::Drained) => {}
        }
        if let Some(timeout) = connection.timeout.take() {
            self.timers.start(key, timeout, Instant::now());
        }
        // The idle timeout has expired, and what had arrived is answered now.
        let is_late =
            !connection.is_lent() && mem::take(&mut registration.is_late);
        if is_late && !self.timers.is_running(key) {
            return self.close(key);
        }
        let mut interest = self.kind.interest(connection);
        if registration.is_waiting {
            // Otherwise each wait would report it, until there is room.
            interest.remove(EpollFlags::EPOLLIN);
        }
        // `compute`: if the interest changed; `io`: always.
        let changed = interest != registration.interest;
        if changed || self.kind == Kind::Io {
            registration.interest = interest;
            let mut event = EpollEvent::new(interest, key.data().as_ffi());
            self.epoll
                .modify(&connection.stream, &mut event)
                .unwrap_or_else(|errno| self.fail(key, errno));
        }
    }

    fn on_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.on_readable(&mut self.about);
        }
    }

    /// Closes a connection. That also removes its socket from the interest
    /// list, because it is the only descriptor of its open file description.
    /// After dup(2) or fork(2) the registration would live on, and report
    /// events, until all copies are closed (epoll(7), "Questions and answers").
    fn close(&mut self, key: DefaultKey) {
        if self.connections.remove(key).is_some() {
            self.timers.cancel(key);
            self.registrations.remove(key);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}

/// A connection's entry in the interest list.
struct Registration {
    interest: EpollFlags,
    /// True while the connection is in the list of those that wait for room,
    /// so that it is there only once.
    is_waiting: bool,
    /// True if the idle timeout expired while a request might have arrived.
    is_late: bool,
}

/// Converts to milliseconds, rounded up: rounded down, the loop would spin for
/// the last millisecond.
fn milliseconds(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now()).as_micros();
    EpollTimeout::try_from(left.div_ceil(1000)).unwrap_or(EpollTimeout::MAX)
}
