//! **I/O multiplexing with poll**: one thread waits for many sockets in one
//! call, and passes them to the kernel as an array.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!           |    poll(array of all sockets)  |
//!           |------------------------------->|  checks each: nothing has
//!           |                                |  arrived
//!        asleep, for all sockets at once     |  phase 1: waiting for data
//!           :                                |  a segment arrives: checks
//!           :                                |  each socket again
//!           |<-------------------------------|
//!           |    how many are ready          |
//!        searches the array for them         |
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and waits again
//! ```
//!
//! The array has one entry (pollfd) per socket: its descriptor, the events to
//! wait for (`events`), and those that have occurred (`revents`), which the
//! kernel fills in. Because these are separate fields, the program keeps the
//! array from wait to wait, and changes an entry only if its connection does.
//!
//! The kernel keeps no list between calls. Each wait copies the whole array
//! into the kernel, checks every socket before it sleeps and again each time it
//! wakes, and copies each `revents` back (fs/select.c, do_sys_poll). So the
//! cost of a wait grows with the number of sockets, not of those that are
//! ready.
//!
//! After a short write the rest of the replies waits in the program, and the
//! loop waits for room in the send buffer too (POLLOUT), until all is sent.
//!
//! Readiness can be spurious: at the time of the call, another thread or
//! process may have taken the connection (accept(2), "NOTES"), and select(2),
//! "BUGS", warns of more. Therefore all sockets are O_NONBLOCK, and EAGAIN
//! after a report is not an error.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), poll(2), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) on it, ioctl(2) (tcp(7)); for datagrams recvfrom(2)
//! and sendto(2).
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). The array may not be
//! longer than that limit: if it is lowered below the array's length while the
//! server runs, poll fails with EINVAL, and the server ends.
//!
//! Each wait costs time for every client, busy or idle. One thread: a request
//! that takes long delays all the others (head-of-line blocking).
//!
//! # When to use it
//!
//! For few clients, or where most of them are busy, because then most of the
//! checks find something. poll is in POSIX, so a program that uses it can run
//! on any Unix. This one can't: signalfd(2) is Linux's.
//!
//! # Compare with
//!
//! `multiplexing-select`, whose sets end at descriptor 1,023 and are
//! overwritten by each call; `multiplexing-epoll`, where the kernel keeps the
//! list.
//!
//! # References
//!
//! - Stevens, UNIX Network Programming (UNP), vol. 1, section 6.10: poll.
//! - Kerrisk, The Linux Programming Interface (TLPI), sections 63.2.2: poll,
//!   and 63.2.5: problems with select and poll.
//! - poll(2).
//! - docs/CLAIMS.md: copies-poll, poll-no-ceiling, select-and-poll-cost-linear,
//!   poll-event-types, closed-while-watched.

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

/// The keys of the descriptors that are not connections; each is also the index
/// of its entry in the array. A connection's key is larger, because its upper
/// half, the version, is never zero.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DATAGRAMS: u64 = 2;

/// Readable only. It is also the synthetic event of a connection that poll
/// has not reported.
const READABLE: PollFlags = PollFlags::POLLIN;

/// One recv per event. Data left unread is reported again, and a second call
/// would mostly return EAGAIN.
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
    /// The array for poll, with one entry per descriptor.
    polled: Vec<pollfd>,
    /// The key of each entry of `polled`, at the same index, because a pollfd
    /// has no room for user data.
    keys: Vec<u64>,
    /// The index of each connection's entry.
    places: SecondaryMap<DefaultKey, u32>,
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
        // Readiness can be spurious, so no call on a socket may block.
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
            timers: Timers::new(config.idle_timeout),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Waits until sockets are ready, and lists their events, because handling
    /// an event may change the array.
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

    /// Returns how long to wait; NONE means until something happens.
    fn timeout(&self) -> PollTimeout {
        let ack_poll = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, ack_poll];
        milliseconds(moments.into_iter().flatten().min())
    }

    /// Adds a connection's entry to the array, for the next wait.
    fn register(&mut self, key: DefaultKey) {
        let connection = &self.connections[key];
        self.places.insert(key, self.polled.len() as u32);
        let stream = connection.stream.as_fd();
        self.polled.push(entry(Some(stream), interest(connection)));
        self.keys.push(key.data().as_ffi());
    }

    /// Removes a connection's entry, and moves the last entry to its index.
    fn unregister(&mut self, key: DefaultKey) {
        let Some(index) = self.places.remove(key) else { return };
        let place = index as usize;
        self.polled.swap_remove(place);
        self.keys.swap_remove(place);
        if let Some(&moved) = self.keys.get(place) {
            self.places.insert(KeyData::from_ffi(moved).into(), index);
        }
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found. An error or a hang-up
    /// counts as readable and writable; the next call returns the errno.
    fn handle_event(&mut self, key: DefaultKey, events: PollFlags) {
        let failure = PollFlags::POLLERR | PollFlags::POLLHUP;
        let Some(connection) = self.connections.get_mut(key) else { return };
        // The descriptor is not open, which poll would report at each wait.
        // It can't happen, because the connection owns its descriptor.
        if events.contains(PollFlags::POLLNVAL) {
            return self.fail(key, Errno::EBADF);
        }
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
        let place = self.places[key] as usize;
        self.polled[place].events = interest(connection).bits();
    }

    fn on_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.on_readable(&mut self.about);
        }
    }

    fn close(&mut self, key: DefaultKey) {
        if self.connections.remove(key).is_some() {
            self.timers.cancel(key);
            self.unregister(key);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}

/// Returns the events to wait for. POLLOUT is among them only after a short
/// write: otherwise a socket is writable nearly always, and each wait would
/// return at once. POLLERR and POLLHUP are always reported.
fn interest(connection: &Connection) -> PollFlags {
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::POLLIN, connection.wants_input());
    interest.set(PollFlags::POLLOUT, connection.has_output());
    interest
}

/// Returns an entry of the array. poll ignores one without a descriptor.
fn entry(fd: Option<BorrowedFd<'_>>, interest: PollFlags) -> pollfd {
    let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
    pollfd { fd, events: interest.bits(), revents: 0 }
}

/// Calls poll(2) with an array that outlives the call. nix's wrapper would
/// borrow the descriptors of the array for as long as it exists.
fn poll(polled: &mut [pollfd], timeout: PollTimeout) -> nix::Result<usize> {
    let length = polled.len() as libc::nfds_t;
    // SAFETY: the kernel writes only the `revents` of `length` entries, which
    // the slice has. It only reports a descriptor that is not open.
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
