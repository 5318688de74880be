//! **I/O multiplexing with epoll**: one thread waits for many sockets in one
//! call, and the kernel keeps the list of them and the list of the ready ones.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone, level-triggered, and
//! `examples/minimal_edge.rs` edge-triggered.
//!
//! ```text
//!      application                         kernel
//!           |    epoll_ctl(ADD, stream)      |
//!           |------------------------------->|  once: interest list
//!           |    epoll_wait                  |
//!           |------------------------------->|  nothing has arrived
//!        asleep, for all sockets at once     |  phase 1: waiting for data
//!           :                                |  a segment arrives: its socket
//!           :                                |  goes on the ready list
//!           |<-------------------------------|
//!           |    the sockets that are ready  |
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and waits again
//! ```
//!
//! epoll_ctl adds each socket to the interest list once. When something
//! arrives, the kernel puts the socket on the ready list, and epoll_wait
//! returns events from there. The loop in `serve`, which waits for readiness
//! and calls a handler for each event, is a reactor.
//!
//! select(2) and poll(2) pass all sockets at each call and check every one.
//! With epoll the cost of a wait grows with the number of ready sockets, not of
//! idle ones.
//!
//! Readiness can be spurious: at the time of the call, another thread or
//! process may have taken the connection (accept(2), "NOTES"), and select(2),
//! "BUGS", warns of more. Therefore all sockets are O_NONBLOCK, and EAGAIN
//! after a report is not an error.
//!
//! After a short write the rest of the replies waits in the program, and the
//! loop waits for room in the send buffer too (EPOLLOUT), until all is sent.
//!
//! The variants differ in when epoll reports a socket. On a first read, read
//! `level` alone, and skip what the code marks as `edge` or `oneshot`. Their
//! rules are in `trigger.rs`; `edge` adds a ready list (`run_ready_list`).
//!
//! - `level`: as long as it is ready. Data left unread is reported again.
//! - `edge`: when something new has happened. Data left unread is not reported
//!   again, so a socket is read until it is drained: until EAGAIN, or until a
//!   recv returns less than it could (epoll(7), "Questions and answers"). A
//!   short recv does not count if EOF or an urgent byte follows the data, which
//!   EPOLLRDHUP and EPOLLPRI report. Draining one busy socket could starve the
//!   others (epoll(7), "Possible pitfalls"), so a socket that has used up its
//!   read budget goes on the program's ready list, and is read again before the
//!   next wait. Its interest is registered once and never changes.
//! - `oneshot`: once, until it is re-armed (EPOLL_CTL_MOD). With that, several
//!   threads could wait on one epoll instance without two of them serving the
//!   same client.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), epoll_create1(2), epoll_ctl(2), epoll_wait(2),
//! accept4(2), recv(2), send(2), shutdown(2), signalfd(2) and read(2) on it,
//! ioctl(2) (tcp(7)); for datagrams recvfrom(2) and sendto(2).
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). Each registration costs
//! 184 bytes of kernel memory (EP_ITEM_COST in fs/eventpoll.c, on x86-64 with
//! Linux 6.18; epoll(7) says roughly 160). fs.epoll.max_user_watches limits the
//! registrations of one user (ENOSPC).
//!
//! One thread: a request that takes long delays all the others (head-of-line
//! blocking). Several epoll instances that wait for one listener are all woken
//! by each new connection, a thundering herd, which EPOLLEXCLUSIVE can avoid
//! (epoll_ctl(2)).
//!
//! # When to use it
//!
//! For many clients of which few are active at a time, on Linux. For few
//! clients, or connections so short that epoll_ctl is called more often than
//! epoll_wait, poll(2) does as well.
//!
//! # Compare with
//!
//! `multiplexing-poll`, which passes the whole list to the kernel at each wait;
//! `signal-driven`, where the kernel queues one signal per event instead of
//! one list entry per socket, so that the queue can overflow;
//! `loop-per-core`, which runs `edge` on every core.
//!
//! # References
//!
//! - Stevens, UNIX Network Programming (UNP), vol. 1, section 6.2: the
//!   models of I/O, without epoll.
//! - Kerrisk, The Linux Programming Interface (TLPI), section 63.4: epoll,
//!   and 63.1.1: level-triggered and edge-triggered notification.
//! - epoll(7), with its "Questions and answers" and "Possible pitfalls".
//! - docs/CLAIMS.md: copies-epoll-edge, level-repeats, edge-blocking-starves,
//!   edge-more-efficient, epoll-cost-flat, epoll-shared-memory.

mod accept;
mod acceptor;
mod connection;
mod datagrams;
mod drain;
mod policies;
mod queues;
mod trigger;

use std::mem;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::signalfd::SignalFd;
use slotmap::{DefaultKey, Key as _, KeyData, SecondaryMap, SlotMap};

use common::limits::ACK_POLL_INTERVAL;
use common::{
    About, Clients, Config, ConnectionLimit, Model, SpareDescriptor, Timers,
};

use connection::{Connection, Outcome, Scratch, is_peer_error};
use datagrams::Datagrams;
use trigger::{BEHIND_INPUT, Flags, Trigger};

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

/// The synthetic event of a connection that epoll has not reported. With `edge`
/// it is read until EAGAIN, because EOF or an urgent byte may follow its input.
const READABLE: EpollFlags = EpollFlags::EPOLLIN.union(BEHIND_INPUT);

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(&config, flags.trigger))
}

fn serve(config: &Config, trigger: Trigger) -> Result<()> {
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let mut server = Server::new(config, trigger, listener, socket)?;
    common::announce(tcp, udp)?;

    let mut events = [EpollEvent::empty(); EVENTS_PER_WAIT];
    while !server.has_finished() {
        let ready = match server.epoll.wait(&mut events, server.timeout()) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("epoll_wait"),
        };
        server.now = Instant::now();
        for event in &events[..ready] {
            match event.data() {
                LISTENER => {
                    let most = acceptor::accepts(ready + server.ready.len());
                    server.accept_pending(most)?;
                }
                SIGNALS => server.on_signal()?,
                DATAGRAMS => server.on_datagrams(),
                key => {
                    let key = KeyData::from_ffi(key).into();
                    server.handle_event(key, event.events());
                }
            }
        }
        server.run_ready_list();
        server.close_timed_out();
        server.close_acknowledged();
        server.resume()?;
    }
    common::report_cut_off(server.connections.len());
    Ok(())
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    trigger: Trigger,
    epoll: Epoll,
    signals: SignalFd,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    datagrams: Option<Datagrams>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    /// The keys are generational: unlike a descriptor, none is used twice, so
    /// the key of a stale event finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers,
    /// The connections in epoll's interest list.
    registrations: SecondaryMap<DefaultKey, Registration>,
    /// The ready list of `edge`: connections that may have more to read, which
    /// no further edge reports.
    ready: Vec<DefaultKey>,
    scratch: Scratch,
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
        trigger: Trigger,
        listener: Option<OwnedFd>,
        socket: Option<OwnedFd>,
    ) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .context("epoll_create1")?;
        let signals = drain::signals()?;
        // These three are level-triggered in every variant: a round reads a
        // limited number from each, then the connections get their turn.
        let watch = |fd: BorrowedFd<'_>, key| {
            // Readiness can be spurious, so no call on a socket may block.
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, key))
        };
        watch(signals.as_fd(), SIGNALS).context("epoll_ctl")?;
        if let Some(listener) = &listener {
            watch(listener.as_fd(), LISTENER).context("epoll_ctl")?;
        }
        if let Some(socket) = &socket {
            watch(socket.as_fd(), DATAGRAMS).context("epoll_ctl")?;
        }
        Ok(Self {
            config,
            trigger,
            epoll,
            signals,
            listener,
            datagrams: socket.map(Datagrams::new),
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(config, 1),
            connections: SlotMap::new(),
            registrations: SecondaryMap::new(),
            timers: Timers::new(config.idle_timeout),
            ready: Vec::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, trigger.name()),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Returns how long to wait; zero while the ready list has connections.
    fn timeout(&self) -> EpollTimeout {
        if !self.ready.is_empty() {
            return EpollTimeout::ZERO;
        }
        let ack_poll = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, ack_poll];
        milliseconds(moments.into_iter().flatten().min())
    }

    /// Adds a connection to the interest list. With `edge` this is its only
    /// epoll_ctl call.
    fn register(&mut self, key: DefaultKey) -> nix::Result<()> {
        let connection = &self.connections[key];
        let interest = self.trigger.interest(connection);
        self.registrations
            .insert(key, Registration { interest, listed: false });
        let event = EpollEvent::new(interest, key.data().as_ffi());
        self.epoll.add(&connection.stream, event)
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found. An error or a hang-up
    /// counts as readable and writable; the next call returns the errno.
    fn handle_event(&mut self, key: DefaultKey, events: EpollFlags) {
        let failure = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut outcome = Ok(Outcome::Drained);
        if events.intersects(EpollFlags::EPOLLOUT | failure) {
            outcome = connection.on_writable();
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && events.intersects(EpollFlags::EPOLLIN | failure) {
            outcome = connection.on_readable(
                self.trigger.read_policy(events),
                &mut self.scratch,
                &mut self.about,
            );
        }
        self.apply_outcome(key, outcome);
    }

    /// With `edge`, reads again from the connections on the ready list, each
    /// once before the next wait, so that no busy client starves the others.
    fn run_ready_list(&mut self) {
        for key in mem::take(&mut self.ready) {
            if let Some(registration) = self.registrations.get_mut(key) {
                registration.listed = false;
                self.handle_event(key, READABLE);
            }
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
        let registration = &mut self.registrations[key];
        match outcome {
            Ok(Outcome::Ended) => return self.close(key),
            Err(errno) if is_peer_error(errno) => return self.close(key),
            Err(errno) => return self.fail(key, errno),
            // `edge`: no further event reports what is left unread.
            Ok(Outcome::More) if self.trigger.reports_once() => {
                if !registration.listed {
                    registration.listed = true;
                    self.ready.push(key);
                }
            }
            Ok(Outcome::More | Outcome::Drained) => {}
        }
        if let Some(timeout) = connection.timeout.take() {
            self.timers.start(key, timeout, Instant::now());
        }
        // `level`: if the interest changed; `oneshot`: always; `edge`: never.
        let interest = self.trigger.interest(connection);
        let changed = interest != registration.interest;
        if changed || self.trigger.is_disarmed_by_a_report() {
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
    /// True while the connection is on the ready list, so that it is there
    /// only once.
    listed: bool,
}

/// Converts to milliseconds, rounded up: rounded down, the loop would spin for
/// the last millisecond.
fn milliseconds(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now()).as_micros();
    EpollTimeout::try_from(left.div_ceil(1000)).unwrap_or(EpollTimeout::MAX)
}
