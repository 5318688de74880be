//! **I/O multiplexing with select**: one thread waits for many sockets in one
//! call, and passes them to the kernel as sets of bits.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!        puts all sockets into the sets      |
//!           |    select(sets)                |
//!           |------------------------------->|  checks each: nothing has
//!           |                                |  arrived
//!        asleep, for all sockets at once     |  phase 1: waiting for data
//!           :                                |  a segment arrives: checks
//!           :                                |  each socket again
//!           |<-------------------------------|
//!           |    the sets, of the ready only |
//!        searches the sets for all sockets   |
//!           |    recv(stream)                |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!           |    the number of bytes         |
//!        answers, sends, and waits again
//! ```
//!
//! A set (fd_set) has one bit per descriptor number. The program passes a set
//! of the sockets to read from and a set of those to write to. The sets are
//! value-result arguments: the kernel overwrites them with its answer. So the
//! program builds them before each wait, and searches them after it.
//!
//! The kernel keeps no list between calls. It checks every socket before it
//! sleeps, and again each time it wakes (fs/select.c, do_select). With the
//! program's own two, a wait that sleeps costs at least four passes over all
//! sockets, however few are ready. The first argument, the highest descriptor
//! plus one, bounds the part of the sets that the kernel reads.
//!
//! After a short write the rest of the replies waits in the program, and the
//! loop waits for room in the send buffer too (the set for writing), until all
//! is sent.
//!
//! Readiness can be spurious: at the time of the call, another thread or
//! process may have taken the connection (accept(2), "NOTES"), and select(2),
//! "BUGS", warns of more. Therefore all sockets are O_NONBLOCK, and EAGAIN
//! after a report is not an error.
//!
//! SIGTERM and SIGINT stay blocked and are read from a signalfd(2), which
//! select waits for like a socket. It replaces the self-pipe trick (select(2)),
//! where a signal handler writes to a pipe that the loop waits for.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), select(2), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) on it, ioctl(2) (tcp(7)); for datagrams recvfrom(2)
//! and sendto(2).
//!
//! # Limits
//!
//! FD_SETSIZE: a set has 1,024 bits, for descriptors 0 to 1,023, whatever
//! RLIMIT_NOFILE is. The limit is the C library's, whose fd_set has a fixed
//! size; the kernel has none (select(2), "C library/kernel differences"). No
//! errno reports it: setting a higher bit writes past the set's end in C,
//! aborts the program in C with _FORTIFY_SOURCE (feature_test_macros(7)), and
//! panics here. So this server rejects a new connection with a higher
//! descriptor, and does not start if one of its own would be higher.
//!
//! Each wait costs time for every client, busy or idle. One thread: a request
//! that takes long delays all the others (head-of-line blocking).
//!
//! # When to use it
//!
//! Where nothing else exists: it is the oldest call of its kind, and present on
//! every system. Its timeout in microseconds is no reason, because ppoll(2),
//! pselect(2) and epoll_pwait2(2) take nanoseconds.
//!
//! # Compare with
//!
//! `nonblocking`, which tries each socket itself; `multiplexing-poll`, whose
//! array has no fixed size and survives the call.
//!
//! # References
//!
//! - Stevens, UNIX Network Programming (UNP), vol. 1, section 6.3: select.
//! - Kerrisk, The Linux Programming Interface (TLPI), sections 63.2.1:
//!   select, and 63.5.2: the self-pipe trick.
//! - select(2), select_tut(2).
//! - docs/CLAIMS.md: copies-select, select-modifies-sets, fd-setsize-kernel,
//!   fd-setsize-beyond, select-and-poll-cost-linear, select-for-real-time.

mod accept;
mod acceptor;
mod connection;
mod datagrams;
mod drain;
mod policies;
mod queues;
mod set_size;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::select::{FdSet, select};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::{TimeVal, TimeValLike as _};
use slotmap::{DefaultKey, Key as _, KeyData, SlotMap};

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

/// The keys of the descriptors that are not connections. A connection's key is
/// larger, because its upper half, the version, is never zero.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DATAGRAMS: u64 = 2;

/// Readable only. It is also the synthetic event of a connection that select
/// has not reported.
const READABLE: Ready = Ready { readable: true, writable: false };

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
            Err(errno) => return Err(errno).context("select"),
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
            set_size::ensure_fits(fd)?;
        }
        set_size::ensure_fits(&signals)?;
        Ok(Self {
            config,
            signals,
            listener,
            datagrams: socket.map(Datagrams::new),
            spare: SpareDescriptor::open()?,
            limit: set_size::limit(config)?,
            connections: SlotMap::new(),
            timers: Timers::new(config.idle_timeout),
            scratch: Scratch::new(),
            about: About::new(MODEL.name, ""),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
        })
    }

    /// Waits until sockets are ready, and lists their events. The sets are
    /// built for this wait, and hold the kernel's answer afterwards.
    fn wait(&self, events: &mut Vec<(u64, Ready)>) -> nix::Result<()> {
        let accepts = self.paused_until.is_none();
        let listener = self.listener.as_ref().filter(|_| accepts);
        let others = [
            (LISTENER, listener.map(|listener| listener.as_fd())),
            (SIGNALS, Some(self.signals.as_fd())),
            (DATAGRAMS, self.datagrams.as_ref().map(|all| all.socket.as_fd())),
        ];
        let mut readable = FdSet::new();
        let mut writable = FdSet::new();
        for fd in others.iter().filter_map(|&(_, fd)| fd) {
            readable.insert(fd);
        }
        for connection in self.connections.values() {
            let stream = connection.stream.as_fd();
            if connection.wants_input() {
                readable.insert(stream);
            }
            // Only after a short write: otherwise a socket is writable nearly
            // always, and each wait would return at once.
            if connection.has_output() {
                writable.insert(stream);
            }
        }

        let highest = [readable.highest(), writable.highest()];
        let highest = highest.into_iter().flatten().map(|fd| fd.as_raw_fd());
        let end = highest.max().map_or(0, |highest| highest + 1);
        let mut timeout = self.timeout();
        select(end, &mut readable, &mut writable, None, timeout.as_mut())?;

        events.clear();
        for (key, fd) in others {
            if fd.is_some_and(|fd| readable.contains(fd)) {
                events.push((key, READABLE));
            }
        }
        for (key, connection) in &self.connections {
            let stream = connection.stream.as_fd();
            let ready = Ready {
                readable: readable.contains(stream),
                writable: writable.contains(stream),
            };
            if ready.readable || ready.writable {
                events.push((key.data().as_ffi(), ready));
            }
        }
        Ok(())
    }

    /// Returns how long to wait; `None` means until something happens.
    fn timeout(&self) -> Option<TimeVal> {
        let ack_poll = self.drain_until.map(|_| self.now + ACK_POLL_INTERVAL);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, ack_poll];
        microseconds(moments.into_iter().flatten().min())
    }

    /// Handles an event of a connection. The key of a stale event, whose
    /// connection has been closed since, is not found.
    fn handle_event(&mut self, key: DefaultKey, events: Ready) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut outcome = Ok(Outcome::Drained);
        if events.writable {
            outcome = connection.on_writable();
        }
        let over = matches!(outcome, Ok(Outcome::Ended) | Err(_));
        if !over && events.readable {
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

/// The conditions that select has reported. An error makes a socket readable
/// and writable, a hang-up only readable (select(2), "Correspondence between
/// select() and poll() notifications"). The result of the next call
/// distinguishes them.
#[derive(Clone, Copy, Debug)]
struct Ready {
    readable: bool,
    writable: bool,
}

/// Converts to microseconds, rounded up: rounded down, the loop would spin for
/// the last microsecond.
fn microseconds(until: Option<Instant>) -> Option<TimeVal> {
    let left = until?.saturating_duration_since(Instant::now()).as_nanos();
    // No timeout is longer than a year, so this is in range.
    Some(TimeVal::microseconds(left.div_ceil(1000) as i64))
}
