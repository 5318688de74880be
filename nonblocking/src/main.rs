//! **Non-blocking I/O**: one thread asks every socket in turn, and takes "not
//! yet" (EAGAIN) for an answer.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    recv(stream)                |
//!           |------------------------------->|  nothing has arrived
//!           |<-------------------------------|
//!           |    EAGAIN                      |  phase 1: waiting for data,
//!        asks all the others, and again      |  awake
//!           |    recv(stream)                |
//!           |------------------------------->|  still nothing
//!           |<-------------------------------|
//!           |    EAGAIN                      |
//!           :                                |  a segment arrives: nobody
//!           :                                |  is told
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and asks the next
//! ```
//!
//! O_NONBLOCK makes every call on a socket return at once; on a regular file
//! it has no effect (open(2)). Nothing waits in the kernel, so the program is
//! not told that there is something to do: it finds out by asking, and one
//! thread is at it all the time. The other models ask the kernel once for all
//! sockets.
//!
//! With `--pause-us N` it sleeps so long between two rounds: less processor
//! time burnt, and each step of a request, 16 KiB or what fits a send buffer,
//! waits for up to a pause; so does a stop before it is heard. INFO counts in
//! `empty_calls` how often the answer was "not yet".
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) of it, ioctl(2) (tcp(7)); for datagrams recvfrom(2)
//! and sendto(2). With a pause clock_nanosleep(2).
//!
//! # Limits
//!
//! A whole processor, always, and a call a client a round: with a thousand
//! idle clients, each of the others is asked after a thousand empty calls. A
//! descriptor a client (EMFILE at RLIMIT_NOFILE). One thread: a request that
//! takes long delays all the others.
//!
//! # When to use it
//!
//! On a processor of its own, for a few sockets that are always busy, where a
//! wake-up would take longer than the wait. Elsewhere as the part that the
//! models below are built from: the call that does not wait.
//!
//! # Compare with
//!
//! `blocking`, which waits inside recv and so for one socket only;
//! `multiplexing-select`, where the kernel is asked once for all.

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

/// What a visit takes: one call that brings something. The next one is due
/// when all the others have been asked.
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
    timers: Timers<DefaultKey>,
    /// Whom the round visits; kept for its memory only.
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
            timers: Timers::new(),
            round: Vec::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// A stop has its time, however long a pause is.
    fn at_most_until_the_end(&self, pause: Duration) -> Duration {
        let left = self
            .drain_until
            .map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(pause, |left| pause.min(left))
    }

    /// Asks every connection, whether there is something or not.
    fn try_all(&mut self) {
        let mut round = mem::take(&mut self.round);
        round.extend(self.connections.keys());
        for key in round.drain(..) {
            self.try_client(key);
        }
        self.round = round;
    }

    /// Asks a connection.
    fn try_client(&mut self, key: DefaultKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        // Nothing separates waiting from working here: a round may take long.
        self.now = Instant::now();
        let mut outcome = Ok(Outcome::Drained);
        // One that takes no more input has something to send, or is to end.
        if connection.has_output() || !connection.wants_input() {
            outcome = connection.on_writable(self.now);
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && connection.wants_input() {
            outcome = connection.on_readable(
                READ_POLICY,
                &mut self.scratch,
                &mut self.about,
                self.now,
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
            Ok(Outcome::More | Outcome::Drained) => {}
        }
        self.timers.schedule(key, &mut connection.timer);
    }

    fn on_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.on_readable(&mut self.about);
        }
    }

    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
