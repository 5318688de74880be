//! **Signal-driven I/O**: the kernel queues a real-time signal whenever
//! something happens to a socket; one thread takes the signals and serves the
//! sockets that they name.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    fcntl(stream, O_ASYNC)      |
//!           |------------------------------->|  once: stream sends signals
//!           |    ppoll(signals)              |
//!           |------------------------------->|  none is queued
//!        asleep, for all sockets at once     |  phase 1: waiting for data
//!           :                                |  a segment arrives: a signal
//!           :                                |  with its socket's number is
//!           :                                |  queued
//!           |<-------------------------------|
//!           |    read(signals)               |
//!           |------------------------------->|
//!           |<-------------------------------|
//!           |    the sockets that have news  |
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and waits again
//! ```
//!
//! A signal tells of an event, as edge-triggered epoll does: what is left
//! unread is not reported again. So a socket is read until EAGAIN, and one that
//! has more than its share stays on a list of our own, which is served before
//! the next wait. What arrived before a socket was told to send signals, nobody
//! tells: so a new client is visited once unasked.
//!
//! No handler runs for these signals. They stay blocked, and wait in a queue
//! until signalfd(2) hands them over, many with one read. So a signal does not
//! interrupt the thread while it computes: the thread learns of the data when
//! ppoll returns, as it would from epoll's ready list. sigtimedwait(2) would
//! wait and take one of them with one call, but cannot unblock another signal
//! during the wait. ppoll(2) can, and the datagram service needs it: see
//! `datagrams.rs`, where a handler does the copying.
//!
//! SIGTERM and SIGINT have a signalfd of their own, which the same ppoll waits
//! for. The sockets send their signals to this thread, and kill(2) sends
//! SIGTERM to the process. A read takes the thread's signals first
//! (kernel/signal.c, dequeue_signal), so through a shared signalfd SIGTERM
//! would wait for as long as clients are busy.
//!
//! The queue has an end. An event that finds no place in it becomes SIGIO,
//! which needs none, and says that something was lost, but not what: then one
//! poll(2) looks at all sockets. See `overflow.rs`.
//!
//! # System calls
//!
//! fcntl(2) (F_SETOWN_EX, F_SETSIG, O_ASYNC), signalfd(2), ppoll(2), read(2),
//! accept4(2), recv(2), send(2), shutdown(2), poll(2), ioctl(2) (tcp(7)); for
//! datagrams sigaction(2), raise(3), recvfrom(2) and sendto(2).
//!
//! # Limits
//!
//! The queue: RLIMIT_SIGPENDING signals, which all processes of one user share
//! (`ulimit -i`; by default about four per MiB of memory where a kernel stack
//! has 16 KiB: kernel/fork.c, fork_init). About one signal is queued per
//! arrival, so it fills when the loop is late. No errno reports that, only
//! SIGIO. Nothing is lost then, but each round looks at all sockets, which this
//! model was to avoid.
//!
//! A descriptor a client (EMFILE at RLIMIT_NOFILE). Three calls to make a
//! new client send signals, where epoll needs one; and two for a wait, where
//! epoll needs one: ppoll waits for the queue, read empties it. One thread: a
//! request that takes long delays all the others.
//!
//! # When to use it
//!
//! Hardly ever. Before epoll(7) it was the way to wait for many sockets without
//! naming all of them at each wait; epoll does that without a queue that can
//! overflow. Signals have one use that no other model has: a program that
//! leaves its signal unblocked is interrupted while it computes, and its own
//! code, the handler, runs at that moment and can copy. That suits one or two
//! descriptors. This program does not do it: even SIGUSR1, whose handler
//! answers datagrams, is unblocked inside ppoll only.
//!
//! # Compare with
//!
//! `multiplexing-epoll` with `--trigger edge`: epoll keeps one entry per
//! socket, so its list cannot overflow; this model queues one signal per event;
//! `multiplexing-poll`, which is what is left when the queue has overflowed;
//! `async-io`, whose variant `posix-aio` is told by such signals that the copy
//! is done.

mod accept;
mod acceptor;
mod connection;
mod datagrams;
mod drain;
mod overflow;
mod policies;
mod queues;
mod signals;

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeSpec;
use slotmap::{DefaultKey, SlotMap};

use common::limits::{ACK_POLL_INTERVAL, READ_BUDGET};
use common::{
    About, Clients, Config, ConnectionLimit, Model, SpareDescriptor, Timers,
};

use connection::{Connection, Outcome, ReadPolicy, Scratch, is_peer_error};
use datagrams::Datagrams;
use signals::Report;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

/// Signals taken by one read, 128 bytes each; the others come with the next.
const SIGNALS_PER_READ: usize = 64;

/// What a visit takes: all there is, up to its share of the loop's time. Only
/// EAGAIN says that this was all: one visit may stand for several signals, the
/// last of them about an end of file.
const READ_POLICY: ReadPolicy =
    ReadPolicy { budget: READ_BUDGET, drained_below: 0 };

/// A reason to visit a connection that no signal has reported.
const READABLE: PollFlags = PollFlags::POLLIN;

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let mut server = Server::new(config, listener, socket)?;
    common::announce(tcp, udp)?;

    let mut batch = [signals::NONE; SIGNALS_PER_READ];
    while !server.has_finished() {
        let ready = match server.wait() {
            Ok(ready) => ready,
            // The handler has answered datagrams.
            Err(Errno::EINTR) => Ready::default(),
            Err(errno) => return Err(errno).context("ppoll"),
        };
        server.now = Instant::now();
        if ready.stop {
            server.on_signal()?;
        }
        if ready.events {
            let taken = signals::take(&server.events, &mut batch)?;
            for signal in &batch[..taken] {
                match signals::report(signal) {
                    Report::Event(fd, events) => server.on_event(fd, events),
                    Report::Overflow => server.on_overflow(),
                    Report::Forged => {}
                }
            }
        }
        server.accept_pending()?;
        server.run_ready_list();
        server.close_timed_out();
        server.close_acknowledged();
        server.resume();
    }
    common::report_cut_off(server.connections.len());
    Ok(())
}

/// Which signals are queued.
#[derive(Default)]
struct Ready {
    events: bool,
    stop: bool,
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    /// The signals of sockets.
    events: SignalFd,
    /// SIGTERM and SIGINT.
    signals: SignalFd,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    /// True while there may be new clients of whom no signal will tell.
    new_clients: bool,
    datagrams: Option<Datagrams>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    /// A key is never used twice, so what comes late finds nothing.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers<DefaultKey>,
    /// Whose a descriptor is: a signal has only its number to tell. One that
    /// was queued for a connection closed since then finds nobody, or whoever
    /// has the number now, whose visit will find EAGAIN.
    owners: HashMap<RawFd, DefaultKey>,
    /// Connections to visit, each once however many signals it has sent, and
    /// those that may have more to read, which no signal will tell.
    ready: BTreeMap<DefaultKey, PollFlags>,
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
        listener: Option<OwnedFd>,
        socket: Option<OwnedFd>,
    ) -> Result<Self> {
        // Before any is sent.
        let events = signals::events()?;
        let signals = drain::signals()?;
        if let Some(listener) = &listener {
            signals::arm(listener, signals::event())
                .context("the listener cannot send signals: fcntl")?;
        }
        Ok(Self {
            config,
            events,
            signals,
            new_clients: listener.is_some(),
            listener,
            datagrams: socket.map(Datagrams::new).transpose()?,
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(config, 1),
            connections: SlotMap::new(),
            owners: HashMap::new(),
            timers: Timers::new(),
            ready: BTreeMap::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Sleeps until a signal is queued, time is up, or the datagrams' handler
    /// has run (EINTR).
    fn wait(&mut self) -> nix::Result<Ready> {
        let timeout = self.timeout();
        let signals = [self.events.as_fd(), self.signals.as_fd()];
        let mut signals = signals.map(|it| PollFd::new(it, PollFlags::POLLIN));
        match &mut self.datagrams {
            Some(service) => {
                service.wait(&mut signals, timeout, &mut self.about)
            }
            None => ppoll(&mut signals, timeout, None),
        }?;
        let [events, stop] = signals.map(|it| it.any().unwrap_or(false));
        Ok(Ready { events, stop })
    }

    /// How long to wait: not at all while there is known to be more.
    fn timeout(&self) -> Option<TimeSpec> {
        let new_clients = self.new_clients && self.paused_until.is_none();
        if new_clients || !self.ready.is_empty() {
            return Some(TimeSpec::new(0, 0));
        }
        let look = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let retry = self.datagrams.as_ref().and_then(|it| it.paused_until);
        let moments = [
            self.timers.next(),
            self.paused_until,
            self.drain_until,
            look,
            retry,
        ];
        let until = moments.into_iter().flatten().min()?;
        Some(until.saturating_duration_since(Instant::now()).into())
    }

    /// Has a connection send signals from here on.
    fn register(&mut self, key: DefaultKey) -> nix::Result<()> {
        let stream = &self.connections[key].stream;
        signals::arm(stream, signals::event())?;
        self.owners.insert(stream.as_raw_fd(), key);
        // What has arrived before that, nobody tells.
        self.list(key, READABLE);
        Ok(())
    }

    /// Something has happened to a socket.
    fn on_event(&mut self, descriptor: RawFd, events: PollFlags) {
        let listener = self.listener.as_ref().map(OwnedFd::as_raw_fd);
        if listener == Some(descriptor) {
            self.new_clients = true;
        } else if let Some(&key) = self.owners.get(&descriptor) {
            self.list(key, events);
        }
    }

    /// Has a connection visited in this round, or the next.
    fn list(&mut self, key: DefaultKey, events: PollFlags) {
        *self.ready.entry(key).or_insert(events) |= events;
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found. An error or a hang-up
    /// counts as readable and writable; the next call returns the errno.
    fn handle_event(&mut self, key: DefaultKey, events: PollFlags) {
        let both = PollFlags::POLLERR | PollFlags::POLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut outcome = Ok(Outcome::Drained);
        if events.intersects(PollFlags::POLLOUT | both) {
            outcome = connection.on_writable(self.now);
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && events.intersects(PollFlags::POLLIN | both) {
            outcome = connection.on_readable(
                READ_POLICY,
                &mut self.scratch,
                &mut self.about,
                self.now,
            );
        }
        self.apply_outcome(key, outcome);
    }

    /// Each once, so that a busy client and the others take turns.
    fn run_ready_list(&mut self) {
        for (key, events) in mem::take(&mut self.ready) {
            self.handle_event(key, events);
        }
    }

    /// Acts on the outcome of an event: closes the connection, or watches it
    /// for what it needs next.
    fn apply_outcome(
        &mut self,
        key: DefaultKey,
        outcome: nix::Result<Outcome>,
    ) {
        match outcome {
            Ok(Outcome::Ended) => return self.close(key),
            Err(errno) if is_peer_error(errno) => return self.close(key),
            Err(errno) => return self.fail(key, errno),
            Ok(Outcome::More) => self.list(key, READABLE),
            Ok(Outcome::Drained) => {}
        }
        let connection = &mut self.connections[key];
        self.timers.schedule(key, &mut connection.timer);
    }

    /// A closed socket sends no more signals. Those in the queue stay there.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            self.owners.remove(&connection.stream.as_raw_fd());
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
