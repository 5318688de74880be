//! **I/O multiplexing with epoll**: one thread waits for many sockets at once,
//! and the kernel keeps the list of those that are ready.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    epoll_ctl(ADD, stream)      |
//!           |------------------------------->|  once: stream joins the set
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
//! select(2) and poll(2) are told the whole set at each call and look at each
//! member; epoll is told of changes only, and a socket reports itself when
//! something arrives. The cost of a wait grows with the sockets that are
//! ready, not with those that are idle.
//!
//! The variants differ in when epoll reports a socket:
//!
//! - `level`: whenever it is ready. What is left unread is reported again.
//! - `edge`: when something new has happened. What is left unread is not
//!   reported again, so a socket is read until it is empty: until EAGAIN, or
//!   until a call brings less than it could (epoll(7), "Questions and
//!   answers"). The latter does not count where the end of file or an urgent
//!   byte waits behind the bytes, which EPOLLRDHUP and EPOLLPRI report. A
//!   socket that has more than its share goes on a list of our own, and is
//!   visited before the next wait. It is registered once, and never changed.
//! - `oneshot`: once, and then not until it is armed again. Several threads
//!   could wait on one set without two of them serving the same client.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), epoll_create1(2), epoll_ctl(2), epoll_wait(2),
//! accept4(2), recv(2), send(2), shutdown(2), signalfd(2) and read(2) of it,
//! ioctl(2) (tcp(7)); for datagrams recvfrom(2) and sendto(2).
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). Each socket's place in
//! the set costs 184 bytes of kernel memory (EP_ITEM_COST in fs/eventpoll.c, on
//! x86-64 with Linux 6.18; epoll(7) says roughly 160). The places of one user
//! may number fs.epoll.max_user_watches (ENOSPC). One thread: a request that
//! takes long delays all the others.
//!
//! # When to use it
//!
//! For many clients of which few are active at a time, on Linux. For few
//! clients, or connections so short that each costs more epoll_ctl than
//! epoll_wait, poll(2) does as well.
//!
//! # Compare with
//!
//! `multiplexing-poll`, which hands the kernel the whole list at each wait;
//! `signal-driven`, where the kernel queues one signal per event instead of
//! one list entry per socket, so that the queue can overflow;
//! `loop-per-core`, which is `edge` on every processor.

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

/// The most events that one wait returns; the next one returns the others. An
/// event has 12 bytes on x86-64, 16 on other 64-bit processors (EPOLL_PACKED in
/// include/uapi/linux/eventpoll.h).
const EVENTS_PER_WAIT: usize = 1024;

/// What epoll hands back for the descriptors that are no connection. A key of
/// a connection is larger: its upper half, the version, is never zero.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DATAGRAMS: u64 = 2;

/// A reason to visit a connection that epoll has not reported: whatever there
/// may be.
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
                LISTENER => server.accept_pending()?,
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
    /// A key is never used twice, so a stale event finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers<DefaultKey>,
    /// What epoll knows of each connection.
    registrations: SecondaryMap<DefaultKey, Registration>,
    /// The ready list: connections that may have more to read, which no further
    /// edge reports.
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
        // These three are level-triggered in every variant: they are emptied
        // by rounds, in turn with the connections.
        let watch = |fd: BorrowedFd<'_>, key| {
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
            timers: Timers::new(),
            ready: Vec::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, trigger.name()),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// How long to wait: not at all while a connection is known to have more.
    fn timeout(&self) -> EpollTimeout {
        if !self.ready.is_empty() {
            return EpollTimeout::ZERO;
        }
        let look = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, look];
        milliseconds(moments.into_iter().flatten().min())
    }

    /// Has epoll watch a connection: edge never tells it anything again.
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
        let both = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut outcome = Ok(Outcome::Drained);
        if events.intersects(EpollFlags::EPOLLOUT | both) {
            outcome = connection.on_writable(self.now);
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && events.intersects(EpollFlags::EPOLLIN | both) {
            outcome = connection.on_readable(
                self.trigger.read_policy(events),
                &mut self.scratch,
                &mut self.about,
                self.now,
            );
        }
        self.apply_outcome(key, outcome);
    }

    /// Edge only: what is known to have more is visited before the next wait,
    /// each once, so that a busy client and the others take turns.
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
            Ok(Outcome::More) if self.trigger.reports_once() => {
                if !registration.listed {
                    registration.listed = true;
                    self.ready.push(key);
                }
            }
            Ok(Outcome::More | Outcome::Drained) => {}
        }
        self.timers.schedule(key, &mut connection.timer);
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

    /// Closes a connection. That removes its socket from the interest list too,
    /// because no other descriptor refers to it.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            self.registrations.remove(key);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}

/// What epoll was told of a connection.
struct Registration {
    interest: EpollFlags,
    /// True while the connection is on the ready list, where it is once.
    listed: bool,
}

/// Converts to milliseconds, rounded up: rounded down, the loop would spin for
/// the last millisecond.
fn milliseconds(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now()).as_micros();
    EpollTimeout::try_from(left.div_ceil(1000)).unwrap_or(EpollTimeout::MAX)
}
