//! **Non-blocking I/O**: one thread tries every socket in turn, and a call that
//! would have to wait fails with EAGAIN instead.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!           |    recv(stream)                |
//!           |------------------------------->|  nothing has arrived
//!           |<-------------------------------|
//!           |    EAGAIN                      |  phase 1: waiting for data,
//!        tries all others, then again        |  awake
//!           |    recv(stream)                |
//!           |------------------------------->|  still nothing
//!           |<-------------------------------|
//!           |    EAGAIN                      |
//!           :                                |  a segment arrives; the
//!           :                                |  program is not notified
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and tries the next
//! ```
//!
//! With O_NONBLOCK, a call on a socket never sleeps: if it would have to, it
//! fails with EAGAIN, also called EWOULDBLOCK. That is an expected result, see
//! `receive` in `connection.rs`. O_NONBLOCK has no effect on regular files
//! (open(2)).
//!
//! The program does not learn when data arrives. It tries each socket in each
//! round, so the thread never sleeps: this is busy polling. The multiplexing
//! models instead wait for all sockets in one call.
//!
//! `--pause-us N` sleeps N µs after each round. That saves CPU time, but delays
//! by up to N µs each step of a request (a recv of up to 16 KiB, or a send of
//! what fits the send buffer), and the reaction to a signal. INFO counts the
//! calls that returned EAGAIN in `empty_calls`.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) on it, ioctl(2) (tcp(7)); for datagrams recvfrom(2)
//! and sendto(2). With a pause clock_nanosleep(2).
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). The thread uses 100 %
//! of a CPU even when idle. Each round makes one call per client: with a
//! thousand idle clients, a busy one is tried once per thousand calls that
//! return EAGAIN. One thread: a request that takes long delays all the others
//! (head-of-line blocking).
//!
//! # When to use it
//!
//! On a CPU of its own, for a few sockets that are always busy, where waking a
//! thread would take longer than the wait. Elsewhere non-blocking sockets are a
//! part of the other event loops here, which call recv when it is likely to
//! find something.
//!
//! # Compare with
//!
//! `blocking`, which sleeps inside recv and so waits for one socket only;
//! `multiplexing-select`, where one call waits for all sockets.
//!
//! # References
//!
//! - Stevens, UNIX Network Programming (UNP), vol. 1, section 6.2: the
//!   models of I/O, and chapter 16: nonblocking I/O.
//! - Kerrisk, The Linux Programming Interface (TLPI), sections 5.9:
//!   nonblocking I/O, and 63.1: an overview of alternatives.
//! - open(2) and fcntl(2), O_NONBLOCK.
//! - docs/CLAIMS.md: nonblocking-recv, busy-polling-cpu, busy-polling-latency.

mod accept;
mod acceptor;
mod connection;
mod datagrams;
mod drain;
mod pause;
mod policies;
mod queues;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{mem, thread};

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signalfd::SignalFd;
use slotmap::{DefaultKey, SlotMap};

use common::{
    About, Clients, Config, ConnectionLimit, Model, SpareDescriptor, Timers,
};

use connection::{Connection, Outcome, ReadPolicy, Scratch, is_peer_error};
use datagrams::Datagrams;
use pause::Flags;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

/// One recv per client and round, so that the others get their turn.
const READ_POLICY: ReadPolicy = ReadPolicy { budget: 1, drained_below: 0 };

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(&config, flags.pause()))
}

fn serve(config: &Config, pause: Duration) -> Result<()> {
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let mut server = Server::new(config, listener, socket)?;
    common::announce(tcp, udp)?;

    while !server.has_finished() {
        server.now = Instant::now();
        server.accept_pending()?;
        server.on_signal()?;
        server.on_datagrams();
        server.try_all();
        server.close_timed_out();
        server.close_acknowledged();
        server.resume();
        if !pause.is_zero() {
            thread::sleep(server.at_most_until_the_end(pause));
        }
    }
    common::report_cut_off(server.connections.len());
    Ok(())
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    signals: SignalFd,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    datagrams: Option<Datagrams>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers,
    /// The keys of the connections to try in this round. It is a field only to
    /// keep its memory.
    round: Vec<DefaultKey>,
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
        let signals = drain::signals()?;
        for fd in [&listener, &socket].into_iter().flatten() {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl")?;
        }
        Ok(Self {
            config,
            signals,
            listener,
            datagrams: socket.map(Datagrams::new),
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(config, 1),
            connections: SlotMap::new(),
            timers: Timers::new(config.idle_timeout),
            round: Vec::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Limits the pause to the time that is left for the drain.
    fn at_most_until_the_end(&self, pause: Duration) -> Duration {
        let left = self
            .drain_until
            .map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(pause, |left| pause.min(left))
    }

    /// Tries every connection, whether or not something has arrived.
    fn try_all(&mut self) {
        let mut round = mem::take(&mut self.round);
        round.extend(self.connections.keys());
        for key in round.drain(..) {
            self.try_client(key);
        }
        self.round = round;
    }

    /// Tries one connection: sends pending output, then receives.
    fn try_client(&mut self, key: DefaultKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        // A round may take long, so each connection reads the clock.
        self.now = Instant::now();
        let mut outcome = Ok(Outcome::Drained);
        // A connection that reads no input has output to send, or is to end.
        if connection.has_output() || !connection.wants_input() {
            outcome = connection.on_writable();
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && connection.wants_input() {
            outcome = connection.on_readable(
                READ_POLICY,
                &mut self.scratch,
                &mut self.about,
            );
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
        match outcome {
            Ok(Outcome::Ended) => return self.close(key),
            Err(errno) if is_peer_error(errno) => return self.close(key),
            Err(errno) => return self.fail(key, errno),
            // Alike here: the next round finds what is left unread.
            Ok(Outcome::More | Outcome::Drained) => {}
        }
        if let Some(timeout) = connection.timeout.take() {
            self.timers.start(key, timeout, Instant::now());
        }
    }

    fn on_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.on_readable(&mut self.about);
        }
    }

    fn close(&mut self, key: DefaultKey) {
        if self.connections.remove(key).is_some() {
            self.timers.cancel(key);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
