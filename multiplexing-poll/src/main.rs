//! **I/O multiplexing with poll**: one thread waits for many sockets at once,
//! and hands the kernel the list of them at each wait.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    poll([all sockets])         |
//!           |------------------------------->|  looks at each: nothing has
//!           |                                |  arrived
//!        asleep, for all sockets at once     |  phase 1: waiting for data
//!           :                                |  a segment arrives: looks at
//!           :                                |  each socket again
//!           |<-------------------------------|
//!           |    how many are ready          |
//!        looks for them in the array         |
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and waits again
//! ```
//!
//! The array has an entry for each socket: its descriptor, what to wait for
//! (`events`), and what has come (`revents`), which the kernel fills in. As the
//! two are apart, the array is kept from wait to wait, and changed only where a
//! connection changes. The kernel keeps nothing: each wait copies the whole
//! array to it, looks at each socket, and copies each `revents` back
//! (fs/select.c, do_sys_poll), so the cost of a wait grows with the sockets
//! there are, not with those that are ready.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), poll(2), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) of it, ioctl(2) (tcp(7)); for datagrams recvfrom(2)
//! and sendto(2).
//!
//! # Limits
//!
//! A descriptor a client (EMFILE at RLIMIT_NOFILE). The array may not be longer
//! than that limit: if somebody lowers it below the clients there are, poll
//! fails (EINVAL), and the server ends. No other ceiling, but each wait costs
//! time for every client, busy or idle. One thread: a request that takes long
//! delays all the others.
//!
//! # When to use it
//!
//! For few clients, or where most of them are busy: then a look at each finds
//! much. poll is in POSIX, so a program that uses it can run on any Unix. This
//! one can't: signalfd(2) and accept4(2) are Linux's.
//!
//! # Compare with
//!
//! `multiplexing-select`, whose sets end at 1,024 descriptors and are
//! destroyed by each call; `multiplexing-epoll`, where the kernel keeps the
//! list.

mod accept;
mod acceptor;
mod connection;
mod datagrams;
mod drain;
mod policies;
mod queues;

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{self, pollfd};
use nix::poll::{PollFlags, PollTimeout};
use nix::sys::signalfd::SignalFd;
use slotmap::{DefaultKey, Key as _, KeyData, SecondaryMap, SlotMap};

use common::limits::ACK_POLL_INTERVAL;
use common::{
    About, Clients, Config, ConnectionLimit, Model, SpareDescriptor, Timers,
};

use connection::{Connection, Outcome, ReadPolicy, Scratch, is_peer_error};
use datagrams::Datagrams;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

/// The first entries of the array are those of the descriptors that are no
/// connection. A key of a connection is larger: its upper half, the version,
/// is never zero.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DATAGRAMS: u64 = 2;

/// A reason to visit a connection that poll has not reported.
const READABLE: PollFlags = PollFlags::POLLIN;

/// One recv per event. What it leaves unread is reported again, and a second
/// call would mostly return EAGAIN.
const READ_POLICY: ReadPolicy = ReadPolicy { budget: 1, drained_below: 0 };

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let mut server = Server::new(config, listener, socket)?;
    common::announce(tcp, udp)?;

    let mut events = Vec::new();
    while !server.has_finished() {
        match server.wait(&mut events) {
            Ok(()) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context("poll"),
        }
        server.now = Instant::now();
        for &(key, events) in &events {
            match key {
                LISTENER => server.accept_pending()?,
                SIGNALS => server.on_signal()?,
                DATAGRAMS => server.on_datagrams(),
                key => {
                    let key = KeyData::from_ffi(key).into();
                    server.handle_event(key, events);
                }
            }
        }
        server.close_timed_out();
        server.close_acknowledged();
        server.resume();
    }
    common::report_cut_off(server.connections.len());
    Ok(())
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Server<'a> {
    config: &'a Config,
    /// What poll is asked and what it answers, a descriptor an entry.
    polled: Vec<pollfd>,
    /// Whose each entry is, in the same order: poll does not tell.
    keys: Vec<u64>,
    /// Where each connection's entry is.
    places: SecondaryMap<DefaultKey, usize>,
    signals: SignalFd,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    datagrams: Option<Datagrams>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    /// A key is never used twice, so a stale event finds no connection.
    connections: SlotMap<DefaultKey, Connection>,
    timers: Timers<DefaultKey>,
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
            polled: vec![entry(None, READABLE); 3],
            keys: vec![LISTENER, SIGNALS, DATAGRAMS],
            places: SecondaryMap::new(),
            signals,
            listener,
            datagrams: socket.map(Datagrams::new),
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(config, 1),
            connections: SlotMap::new(),
            timers: Timers::new(),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Waits until some are ready, and lists them: a visit may change the
    /// array.
    fn wait(&mut self, events: &mut Vec<(u64, PollFlags)>) -> nix::Result<()> {
        let accepts = self.paused_until.is_none();
        let others = [
            self.listener.as_ref().filter(|_| accepts).map(|fd| fd.as_fd()),
            Some(self.signals.as_fd()),
            self.datagrams.as_ref().map(|all| all.socket.as_fd()),
        ];
        for (place, fd) in others.into_iter().enumerate() {
            self.polled[place] = entry(fd, READABLE);
        }
        let timeout = self.timeout();
        let ready = poll(&mut self.polled, timeout)?;
        let reported = self.polled.iter().zip(&self.keys);
        let reported = reported.filter(|(entry, _)| entry.revents != 0);
        events.clear();
        for (entry, &key) in reported.take(ready) {
            events.push((key, PollFlags::from_bits_retain(entry.revents)));
        }
        Ok(())
    }

    /// How long to wait; NONE: until something happens.
    fn timeout(&self) -> PollTimeout {
        let look = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, look];
        milliseconds(moments.into_iter().flatten().min())
    }

    /// Has poll watch a connection, from the next wait on.
    fn register(&mut self, key: DefaultKey) {
        let connection = &self.connections[key];
        self.places.insert(key, self.polled.len());
        let stream = connection.stream.as_fd();
        self.polled.push(entry(Some(stream), interest(connection)));
        self.keys.push(key.data().as_ffi());
    }

    /// Takes a connection's entry out, and puts the last one into its place.
    fn unregister(&mut self, key: DefaultKey) {
        let Some(place) = self.places.remove(key) else { return };
        self.polled.swap_remove(place);
        self.keys.swap_remove(place);
        if let Some(&moved) = self.keys.get(place) {
            self.places.insert(KeyData::from_ffi(moved).into(), place);
        }
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found. An error or a hang-up
    /// counts as readable and writable; the next call returns the errno.
    fn handle_event(&mut self, key: DefaultKey, events: PollFlags) {
        let both = PollFlags::POLLERR | PollFlags::POLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        // The descriptor is not open. Its owner is the connection, so this
        // never happens; poll would report it for ever.
        if events.contains(PollFlags::POLLNVAL) {
            return self.fail(key, Errno::EBADF);
        }
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
        let place = self.places[key];
        self.polled[place].events = interest(connection).bits();
    }

    fn on_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.on_readable(&mut self.about);
        }
    }

    fn close(&mut self, key: DefaultKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.timers.cancel(key, &connection.timer);
            self.unregister(key);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}

/// What to be told of a connection. POLLERR and POLLHUP come unasked.
fn interest(connection: &Connection) -> PollFlags {
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::POLLIN, connection.wants_input());
    interest.set(PollFlags::POLLOUT, connection.has_output());
    interest
}

/// An entry of the array. poll passes over one without a descriptor.
fn entry(fd: Option<BorrowedFd<'_>>, interest: PollFlags) -> pollfd {
    let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
    pollfd { fd, events: interest.bits(), revents: 0 }
}

/// poll(2) on an array that outlives the call; nix's borrows the descriptors
/// of its array for as long as that exists.
fn poll(polled: &mut [pollfd], timeout: PollTimeout) -> nix::Result<usize> {
    let length = polled.len() as libc::nfds_t;
    // SAFETY: the kernel writes nothing but the `revents` of `length` entries,
    // which the slice has. A descriptor that is not open is reported, no more.
    let ready =
        unsafe { libc::poll(polled.as_mut_ptr(), length, timeout.into()) };
    Errno::result(ready).map(|ready| ready.unsigned_abs() as usize)
}

/// Converts to milliseconds, rounded up: rounded down, the loop would spin for
/// the last millisecond.
fn milliseconds(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now()).as_micros();
    PollTimeout::try_from(left.div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
