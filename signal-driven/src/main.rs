//! **Signal-driven I/O**: the kernel sends a signal when something happens to a
//! socket. This model uses it in two ways. (1) For streams, a queue: real-time
//! signals stay blocked, and one thread reads them through a signalfd. (2) For
//! datagrams, a handler: it interrupts ppoll and does the I/O itself, which is
//! the classic model with SIGIO.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone, by way of the queue, and
//! `examples/minimal_datagrams.rs` by way of the handler.
//!
//! ```text
//!      application                         kernel
//!           |    fcntl(stream, O_ASYNC)      |
//!           |------------------------------->|  once: signals for this stream
//!           |    ppoll(signals)              |
//!           |------------------------------->|  none is queued
//!        asleep, for all sockets at once     |  phase 1: waiting for data
//!           :                                |  a segment arrives: a signal
//!           :                                |  with its descriptor is queued
//!           |<-------------------------------|
//!           |    read(signals)               |
//!           |------------------------------->|
//!           |<-------------------------------|
//!           |    descriptors and events      |
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and waits again
//! ```
//!
//! **(1) The queue.** fcntl(2) sets the signal of each socket once
//! (`signals.rs`). Then the kernel queues one real-time signal per event. No
//! handler runs: the signals stay blocked until signalfd(2) returns them, many
//! with one read. So they do not interrupt the thread while it computes. It
//! learns of the data when ppoll returns, as it would from epoll's ready list.
//!
//! A signal reports a change, as edge-triggered epoll does: data left unread is
//! not reported again. So a socket is read until EAGAIN, and one that has used
//! up its read budget goes on the program's ready list, and is read again
//! before the next wait. Data that arrived before O_ASYNC was set raises no
//! signal, so every new connection is read once without one. After a send that
//! returned EAGAIN, a signal reports room.
//!
//! The queue can overflow. Then the kernel sends SIGIO in place of the signal.
//! SIGIO requires no room in the queue and reports that events were lost, but
//! not which, so one poll(2) checks all sockets (`overflow.rs`).
//!
//! SIGTERM and SIGINT have a signalfd of their own, which the same ppoll waits
//! for. They are sent to the process, the sockets' signals to this thread, and
//! a read returns the thread's first (kernel/signal.c, dequeue_signal). Through
//! a shared signalfd SIGTERM would wait for as long as clients are busy.
//!
//! **(2) The handler.** The datagram socket sends SIGUSR1, which is blocked
//! except inside ppoll. When a datagram arrives, the handler interrupts ppoll,
//! receives the datagram and sends the reply; then ppoll fails with EINTR. A
//! handler may call only async-signal-safe functions. `datagrams.rs` has the
//! rules, and a drawing.
//!
//! # System calls
//!
//! fcntl(2) (F_SETOWN_EX, F_SETSIG, O_ASYNC), signalfd(2), ppoll(2), read(2),
//! accept4(2), recv(2), send(2), shutdown(2), poll(2), ioctl(2) (tcp(7)); for
//! datagrams sigaction(2), raise(3), recvfrom(2) and sendto(2).
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). The queue has room for
//! RLIMIT_SIGPENDING signals (`ulimit -i`), which all processes of one user
//! share. About one signal is queued per arrival, so the queue fills when the
//! loop falls behind. No data is lost then, but each overflow costs a check of
//! all sockets, which the model exists to avoid.
//!
//! A new client requires three calls that set up its signals, where epoll needs
//! one. A wait requires two, where epoll needs one: ppoll waits for the queue,
//! and read empties it. One thread: a request that takes long delays all the
//! others.
//!
//! # When to use it
//!
//! Hardly ever. Before epoll(7) it was the way to wait for many sockets without
//! passing all of them at each wait; epoll does that without a queue that can
//! overflow. A handler whose signal is not blocked can copy while the program
//! computes, as in `examples/minimal_datagrams.rs`; no other model can.
//!
//! # Compare with
//!
//! `multiplexing-epoll` with `--trigger edge`: epoll keeps one entry per
//! socket, so its list cannot overflow; this model queues one signal per event;
//! `multiplexing-poll`, which this model falls back to when the queue has
//! overflowed; `async-io`, whose variant `posix-aio` receives such signals when
//! the copy is complete.
//!
//! # References
//!
//! - Stevens, UNIX Network Programming (UNP), vol. 1, chapter 25: the
//!   handler, with datagrams.
//! - Kerrisk, The Linux Programming Interface (TLPI), sections 63.3:
//!   signal-driven I/O, and 21.1: signal handlers.
//! - fcntl(2), "Managing signals"; signal(7); signal-safety(7).
//! - docs/CLAIMS.md: copies-blocked-signal, copies-sigio-handler,
//!   signals-thread-first, sigio-and-aio.

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

/// The most signals that one read returns, 128 bytes each; the next read
/// returns the others.
const SIGNALS_PER_READ: usize = 64;

/// Reads until EAGAIN, up to the read budget. A short recv does not mean that
/// the socket is drained: one event here may stand for several signals, the
/// last of them for EOF.
const READ_POLICY: ReadPolicy =
    ReadPolicy { budget: READ_BUDGET, drained_below: 0 };

/// Readable only: the synthetic event of a connection that no signal has
/// reported.
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
        if ready.signals {
            server.on_signal()?;
        }
        if ready.queue {
            let taken = signals::take(&server.queue, &mut batch)?;
            for signal in &batch[..taken] {
                match signals::report(signal) {
                    Report::Event(fd, events) => {
                        server.on_socket_signal(fd, events);
                    }
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

/// Which of the two signalfds is readable.
#[derive(Default)]
struct Ready {
    queue: bool,
    signals: bool,
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    /// The queue of the sockets' signals.
    queue: SignalFd,
    /// SIGTERM and SIGINT.
    signals: SignalFd,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    /// True while the accept queue may hold connections that no further signal
    /// reports.
    new_clients: bool,
    datagrams: Option<Datagrams>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    /// The keys are generational: none is used twice, so a stale key finds no
    /// connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers,
    /// Maps a descriptor to its connection, because a signal has only the
    /// descriptor's number. A stale signal, whose connection has been closed
    /// since, finds no entry, or the new owner of the number, whose recv then
    /// returns EAGAIN.
    owners: HashMap<RawFd, DefaultKey>,
    /// The ready list: connections with events, each once however many signals
    /// it has sent, and those that may have more to read, which no further
    /// signal reports.
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
        // The signals are blocked before one can be sent.
        let queue = signals::open_queue()?;
        let signals = drain::signals()?;
        if let Some(listener) = &listener {
            signals::arm(listener, signals::of_sockets())
                .context("cannot make the listener send signals: fcntl")?;
        }
        Ok(Self {
            config,
            queue,
            signals,
            new_clients: listener.is_some(),
            listener,
            datagrams: socket.map(Datagrams::new).transpose()?,
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(config, 1),
            connections: SlotMap::new(),
            owners: HashMap::new(),
            timers: Timers::new(config.idle_timeout),
            ready: BTreeMap::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Sleeps until a signal is queued, the timeout expires, or the datagram
    /// handler has run (EINTR).
    fn wait(&mut self) -> nix::Result<Ready> {
        let timeout = self.timeout();
        let signals = [self.queue.as_fd(), self.signals.as_fd()];
        let mut signals = signals.map(|it| PollFd::new(it, PollFlags::POLLIN));
        match &mut self.datagrams {
            Some(service) => {
                service.wait(&mut signals, timeout, &mut self.about)
            }
            None => ppoll(&mut signals, timeout, None),
        }?;
        let [queue, signals] = signals.map(|it| it.any().unwrap_or(false));
        Ok(Ready { queue, signals })
    }

    /// Returns how long to wait: zero while the accept queue or the ready list
    /// may have more; `None` means until something happens.
    fn timeout(&self) -> Option<TimeSpec> {
        let new_clients = self.new_clients && self.paused_until.is_none();
        if new_clients || !self.ready.is_empty() {
            return Some(TimeSpec::new(0, 0));
        }
        let ack_poll = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let retry = self.datagrams.as_ref().and_then(|it| it.paused_until);
        let moments = [
            self.timers.next(),
            self.paused_until,
            self.drain_until,
            ack_poll,
            retry,
        ];
        let until = moments.into_iter().flatten().min()?;
        Some(until.saturating_duration_since(Instant::now()).into())
    }

    /// Has the kernel send signals for a connection from now on.
    fn register(&mut self, key: DefaultKey) -> nix::Result<()> {
        let stream = &self.connections[key].stream;
        signals::arm(stream, signals::of_sockets())?;
        self.owners.insert(stream.as_raw_fd(), key);
        // Data that arrived before that has raised no signal.
        self.list(key, READABLE);
        Ok(())
    }

    /// Handles a signal: lists the connection, or notes new clients.
    fn on_socket_signal(&mut self, descriptor: RawFd, events: PollFlags) {
        let listener = self.listener.as_ref().map(OwnedFd::as_raw_fd);
        if listener == Some(descriptor) {
            self.new_clients = true;
        } else if let Some(&key) = self.owners.get(&descriptor) {
            self.list(key, events);
        }
    }

    /// Puts a connection on the ready list, for this round or the next.
    fn list(&mut self, key: DefaultKey, events: PollFlags) {
        *self.ready.entry(key).or_insert(events) |= events;
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found. An error or a hang-up
    /// counts as readable and writable; the next call returns the errno.
    fn handle_event(&mut self, key: DefaultKey, events: PollFlags) {
        let failure = PollFlags::POLLERR | PollFlags::POLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut outcome = Ok(Outcome::Drained);
        if events.intersects(PollFlags::POLLOUT | failure) {
            outcome = connection.on_writable();
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && events.intersects(PollFlags::POLLIN | failure) {
            outcome = connection.on_readable(
                READ_POLICY,
                &mut self.scratch,
                &mut self.about,
            );
        }
        self.apply_outcome(key, outcome);
    }

    /// Handles the events of the ready list, each connection once, so that no
    /// busy client starves the others.
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
        if let Some(timeout) = connection.timeout.take() {
            self.timers.start(key, timeout, Instant::now());
        }
    }

    /// Closes a connection. No more signals are sent for its socket. Those in
    /// the queue stay there, and are stale.
    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key);
            self.owners.remove(&connection.stream.as_raw_fd());
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
