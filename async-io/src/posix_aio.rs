//! The variant `posix-aio`: reads and writes that the C library does on
//! threads of its own, and a signal for each that is done.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!      main |    aio_read(stream)            |
//!           |--+                             |
//!           |  |    read(stream)             |
//!           |  |---------------------------->|  nothing has arrived
//!           |  asleep                        |  phase 1: waiting for data
//!           |  :                             |  a segment arrives
//!           |  :                             |  phase 2: copying it
//!           |  |<----------------------------|  to the operation's buffer
//!           |  |    rt_sigqueueinfo(key)     |
//!           |  |---------------------------->|  queues a signal
//!           |    sigtimedwait                |
//!           |------------------------------->|
//!           |<-------------------------------|
//!           |    the key of the connection   |
//!        aio_return: the number of bytes; answers, and aio_write
//! ```
//!
//! To the main thread this is asynchronous I/O: it says what it wants, and is
//! told when it is done. But glibc uses no asynchronous call of the kernel
//! for it: one of its threads waits in a plain read(2) or write(2) for
//! each request. What looks like one thread for all clients is
//! `thread-per-connection` with a queue in front. So the streams are blocking:
//! on a nonblocking one read(2) would not wait, and the operation would fail
//! with EAGAIN at once.
//!
//! There is no aio_accept. The listener is signal-driven instead: it sends
//! SIGIO, and new clients are taken until there are no more.
//!
//! A connection has one operation at a time, a read or a write: glibc does
//! those on one descriptor in turn, and a reply would wait behind a read that
//! waits for the client. While it is being written to, nothing is read from
//! it, so that whoever does not read its replies is not listened to either.
//!
//! A request that a thread has begun cannot be cancelled (AIO_NOTCANCELED).
//! What ends it is shutdown(2) on the stream: read(2) says end of file, or
//! write(2) EPIPE. Only then the stream is closed.
//!
//! # System calls
//!
//! aio_init(3), aio_read(3), aio_write(3), aio_error(3), aio_return(3) and
//! aio_cancel(3), which are clone3(2), pread64(2) and pwrite64(2) (a stream
//! answers ESPIPE), read(2), write(2), rt_sigqueueinfo(2) and futex(2);
//! sigtimedwait(2), fcntl(2) (F_SETOWN, O_ASYNC), accept4(2), shutdown(2),
//! getsockopt(2) (TCP_INFO), ioctl(2).
//!
//! # Limits
//!
//! - One thread per client, also for an idle one. glibc makes 20 by default,
//!   and the 21st client would wait for another one's: aio_init(3) asks for
//!   more. A client costs 12 KiB of memory, its buffer included, and 23 KiB in
//!   the kernel, mostly its thread's kernel stack and task_struct, not counting
//!   the two sockets (`cargo xtask compare --full`, x86-64).
//! - A place in the queue of signals for each operation in flight, and one for
//!   the SIGPIPE that a thread cannot take: so there are no more clients than
//!   half of what RLIMIT_SIGPENDING leaves at start. The limit is the user's,
//!   not the process's. If others use it up later, a completion has no signal,
//!   and glibc writes EAGAIN over its result (sysdeps/pthread/aio_notify.c):
//!   the number of bytes is lost, although they have left the socket. Once a
//!   second all operations in flight are looked at; such a conversation ends,
//!   alone.
//! - Threads: RLIMIT_NPROC, kernel.threads-max, kernel.pid_max, and
//!   vm.max_map_count, with two mappings per thread. The least of all these is
//!   the most clients there can be. Once it has a thread, glibc does not report
//!   that it cannot make another one, so the server counts its threads itself,
//!   and rejects the new clients for which none can be made. If the limit is
//!   reached later, a client that was accepted waits for a thread until one can
//!   be made, which is tried once a second, or until an operation of another
//!   client is complete.
//! - Time. glibc looks for the descriptor in a list
//!   (sysdeps/pthread/aio_misc.c), and the kernel, while the main thread is
//!   busy, for a thread that wants a signal among all of them (kernel/signal.c,
//!   complete_signal): both grow with the number of clients. Among 1,000 idle
//!   ones a PING costs 0.06 ms of processor time, among 10,000 it costs 1.1 ms
//!   (`cargo xtask compare --full`, README.md).
//! - A new client is accepted soon, but its answer waits its turn: completions
//!   are taken in the order in which they were queued, so it comes after a
//!   round or two of all busy ones (`cargo xtask test async-io/posix-aio --case
//!   under_load::accept` has 400 of them, and allows ten rounds).
//!
//! # When to use it
//!
//! For files, on systems whose kernel does it. On Linux, to see why io_uring
//! came to be.
//!
//! # Compare with
//!
//! `thread-per-connection`, which is what happens here, in the open;
//! `signal-driven`, where a signal says that a read would not wait, not that
//! it is done.

mod operation;
mod room;
mod signals;

use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, SockFlag, shutdown};
use slotmap::{DefaultKey, SecondaryMap};

use common::limits::{ACCEPTS_PER_ROUND, ACK_POLL_INTERVAL};
use common::{Cause, Config, log, reject};

use crate::accept::{accept, is_connection_error, is_resource_error};
use crate::connection::Progress;
use crate::{MODEL, Server};
use operation::{Operation, Transfer};
use room::{Ceiling, Threads};
use signals::{Event, Signals};

/// Signals taken before new clients and timers have their turn.
const SIGNALS_PER_ROUND: usize = 64;

/// How often the operations in flight are looked at for one whose signal was
/// lost.
const SCAN_PERIOD: Duration = Duration::from_secs(1);

/// How long glibc may take to make a thread before the scan sees to it: longer
/// than from one operation of a client to its next one.
const THREAD_LOOK: Duration = Duration::from_millis(100);

/// Why there is no datagram service.
const NO_DATAGRAMS: &str = "posix-aio serves no datagrams, because aio_read(3) \
                            gives no source address to answer";

pub fn serve(config: &Config) -> Result<()> {
    config.reject_datagrams(&MODEL, NO_DATAGRAMS);
    // What is in flight keeps its stream and its memory until the process is
    // gone, however this ends.
    let mut engine = ManuallyDrop::new(Engine::new(config)?);
    while !engine.server.has_finished() {
        let mut until = engine.next_moment();
        for _ in 0..SIGNALS_PER_ROUND {
            let signal = engine.signals.next(until)?;
            engine.server.now = Instant::now();
            match signal {
                Some(Event::Completed(key)) => engine.on_completed(key),
                Some(Event::Connected) => engine.has_new_clients = true,
                Some(Event::Shutdown) => engine.begin_drain()?,
                None => break,
            }
            // The first is waited for, others are taken if they are there.
            until = Some(engine.server.now);
        }
        engine.accept_pending()?;
        engine.close_timed_out();
        engine.close_acknowledged();
        engine.scan();
    }
    common::report_cut_off(engine.server.connections.len());
    Ok(())
}

/// The server, and the operations in flight: one a client, or on the way to
/// the next.
struct Engine<'a> {
    server: Server<'a>,
    ceiling: Ceiling,
    threads: Threads,
    signals: Signals,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    /// True while somebody may wait of whom no signal will tell any more.
    has_new_clients: bool,
    clients: SecondaryMap<DefaultKey, Client>,
    /// Whose time is up, with what they had sent by then: they get a last
    /// look.
    overdue: Vec<(DefaultKey, u64)>,
    overdue_look: Instant,
    next_scan: Instant,
    /// True where the last scan found fewer threads than clients, and the one
    /// before did not.
    thread_missing: bool,
}

/// What the engine knows of a connection. A key is never used twice, so a
/// signal that comes late finds nothing.
struct Client {
    operation: Operation,
    /// True once a stop has been told to the connection.
    is_input_drained: bool,
    /// True once the connection is to be closed, when nothing is in flight.
    is_over: bool,
}

impl<'a> Engine<'a> {
    fn new(config: &'a Config) -> Result<Self> {
        let signals = Signals::block()?;
        let Some((listener, address)) = common::listen(config)? else {
            bail!("nothing to serve");
        };
        signals::watch(&listener)?;
        let threads = Threads::new();
        let ceiling = Ceiling::find()?;
        let (most, setting) = (ceiling.operations, ceiling.setting);
        let server = Server::with_ceiling(config, "posix-aio", most, setting)?;
        room::prepare(server.limit.max().min(most))?;
        common::announce(Some(address), None)?;
        Ok(Self {
            signals,
            ceiling,
            threads,
            listener: Some(listener),
            // Those who came before the listener was watched.
            has_new_clients: true,
            clients: SecondaryMap::new(),
            overdue: Vec::new(),
            overdue_look: server.now,
            next_scan: server.now,
            thread_missing: false,
            server,
        })
    }

    /// When there is something to do even if no signal comes.
    fn next_moment(&self) -> Option<Instant> {
        let now = self.server.now;
        let moments = [
            self.server.next_moment(),
            self.may_accept().then_some(now),
            (!self.overdue.is_empty()).then_some(self.overdue_look),
            (!self.clients.is_empty()).then_some(self.next_scan),
        ];
        moments.into_iter().flatten().min()
    }

    /// True while the backlog may hold somebody and nothing forbids to take
    /// it.
    fn may_accept(&self) -> bool {
        self.has_new_clients
            && self.listener.is_some()
            && self.server.paused_until.is_none()
    }

    /// Takes new clients until there are no more, for no signal tells of one
    /// that is left; a round's worth of them at a time.
    fn accept_pending(&mut self) -> Result<()> {
        let server = &mut self.server;
        server.paused_until.take_if(|until| *until <= server.now);
        let mut new_clients = Vec::new();
        for _ in 0..ACCEPTS_PER_ROUND {
            if !self.may_accept() {
                break;
            }
            let Some(listener) = &self.listener else { break };
            // Not non-blocking: the thread that reads or writes is to wait.
            match accept(listener, SockFlag::SOCK_CLOEXEC) {
                Ok(stream) => {
                    new_clients.extend(self.add_client(stream));
                    if !self.server.spare.reacquire() {
                        self.server.pause(Errno::EMFILE);
                    }
                }
                Err(Errno::EAGAIN) => {
                    self.server.about.counters.empty_calls += 1;
                    self.server.spare.reacquire();
                    self.has_new_clients = false;
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                // The next accept4 succeeds, because the spare descriptor is
                // free.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.server.spare.release() => {}
                Err(errno) if is_resource_error(errno) => {
                    self.server.pause(errno)
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        self.require_threads(new_clients);
        Ok(())
    }

    /// Adds a connection and starts its first read, if there is room for its
    /// operations.
    fn add_client(&mut self, stream: OwnedFd) -> Option<DefaultKey> {
        let key = self.server.on_accepted(stream)?;
        let Ceiling { operations, setting } = self.ceiling;
        let has_room = self.clients.len() < operations;
        let mut operation = Operation::new(key);
        let stream = &self.server.connections[key].stream;
        let started = has_room.then(|| operation.receive(stream));
        let client =
            Client { operation, is_input_drained: false, is_over: false };
        self.clients.insert(key, client);
        let why = match started {
            Some(Ok(())) => return Some(key),
            Some(Err(errno)) => format!("aio_read: {errno}"),
            None => format!("{setting} allows {operations} operations"),
        };
        self.reject(key, &why);
        None
    }

    /// Rejects the new connections for which no thread can be made. glibc does
    /// not report that: their reads would wait for a thread of another client.
    /// They may also have taken an idle one, which its client will miss. So the
    /// number of threads decides, not which of them does what.
    fn require_threads(&mut self, mut new_clients: Vec<DefaultKey>) {
        // One of them is the main thread.
        let wanted = self.clients.len() + 1;
        let missing = wanted.saturating_sub(self.threads.count());
        let missing = missing.min(new_clients.len());
        if missing > 0 {
            let look = self.server.now + THREAD_LOOK;
            self.next_scan = self.next_scan.min(look);
        }
        let refused = missing - room::threads_to_be_had(missing);
        for key in new_clients.drain(new_clients.len() - refused..) {
            self.reject(key, "no thread (ulimit -u, ulimit -v)");
        }
    }

    /// True where there is a thread for each client, and the first.
    fn has_threads(&self) -> bool {
        self.threads.count() > self.clients.len()
    }

    /// Refuses a new client that has been taken in.
    fn reject(&mut self, key: DefaultKey, why: &str) {
        let stream = &self.server.connections[key].stream;
        reject(stream, format_args!("{why}"));
        self.server.about.counters.accepted -= 1;
        self.server.about.counters.rejected += 1;
        self.hang_up(key);
    }

    /// A signal says that an operation is complete; the operation knows.
    fn on_completed(&mut self, key: DefaultKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(finished) = client.operation.finish() else { return };
        if client.is_over {
            return self.hang_up(key);
        }
        let Server { connections, pool, about, now, .. } = &mut self.server;
        let connection = &mut connections[key];
        let handed_over = match finished {
            Transfer::Receive(Ok(0)) => {
                connection.on_end_of_file();
                Ok(())
            }
            Transfer::Receive(Ok(received)) => {
                let input = client.operation.input(received);
                connection.on_received(input, pool, about, *now)
            }
            Transfer::Send(Ok(sent)) => {
                connection.on_sent(sent);
                if !client.operation.has_rest() {
                    pool.give_back(client.operation.take_output());
                }
                Ok(())
            }
            // No thread had begun it: it is started again.
            Transfer::Receive(Err(Errno::ECANCELED))
            | Transfer::Send(Err(Errno::ECANCELED)) => Ok(()),
            Transfer::Receive(Err(errno)) | Transfer::Send(Err(errno)) => {
                Err(errno)
            }
        };
        match handed_over {
            Ok(()) if self.server.drain_until.is_some() => {
                self.drain_client(key)
            }
            Ok(()) => self.apply_outcome(key),
            Err(Errno::EAGAIN) => self.give_up(key),
            Err(errno) => self.fail(key, errno),
        }
    }

    /// Draws the consequences of what has happened to a connection.
    fn apply_outcome(&mut self, key: DefaultKey) {
        let Server { connections, timers, pool, about, now, .. } =
            &mut self.server;
        let connection = &mut connections[key];
        match connection.flush_and_advance(pool, about, *now) {
            Ok(Progress::GoesOn) => {
                timers.schedule(key, &mut connection.timer);
                self.start(key);
            }
            Ok(Progress::Ended) => self.hang_up(key),
            Err(errno) => self.fail(key, errno),
        }
    }

    /// Starts the next operation: there is one at a time, because glibc does
    /// those on one descriptor in turn, and replies would wait behind a read.
    fn start(&mut self, key: DefaultKey) {
        let connection = &mut self.server.connections[key];
        let Client { operation, is_over, .. } = &mut self.clients[key];
        if *is_over || operation.is_in_flight() {
            return;
        }
        let started = if operation.has_rest() {
            operation.send_rest(&connection.stream)
        } else if let Some(output) = connection.take_output() {
            operation.send(&connection.stream, output)
        } else if connection.wants_input() {
            operation.receive(&connection.stream)
        } else {
            Ok(())
        };
        match started {
            Ok(()) => {}
            // No memory for it, or no thread at all: the scan tries again.
            Err(Errno::EAGAIN) => log(
                Cause::Conversation,
                format_args!(
                    "no memory or thread for an operation, trying again \
                     (ulimit -u, ulimit -v)"
                ),
            ),
            Err(errno) => self.fail(key, errno),
        }
    }

    /// Once a second: finds operations whose signal was lost, of which nothing
    /// else tells, and starts those that could not be started. Where a thread
    /// is still missing, the operations that none has begun are cancelled: each
    /// completes with ECANCELED, is started again, and glibc tries again to
    /// make a thread.
    fn scan(&mut self) {
        if self.server.now < self.next_scan {
            return;
        }
        let missing = !self.has_threads();
        let still_missing = missing && self.thread_missing;
        self.thread_missing = missing && !still_missing;
        let period =
            if self.thread_missing { THREAD_LOOK } else { SCAN_PERIOD };
        self.next_scan = self.server.now + period;
        let keys: Vec<_> = self.clients.keys().collect();
        for key in keys {
            let operation = &self.clients[key].operation;
            if operation.is_lost() {
                self.on_completed(key);
            } else if !operation.is_in_flight() {
                self.start(key);
            } else if still_missing {
                operation.cancel(&self.server.connections[key].stream);
            }
        }
    }

    /// Ends a conversation whose last operation is complete, but with how many
    /// bytes, or which error, is lost together with its signal.
    fn give_up(&mut self, key: DefaultKey) {
        log(
            Cause::Conversation,
            format_args!(
                "a conversation failed: no room for a signal (ulimit -i)"
            ),
        );
        self.hang_up(key);
    }

    fn fail(&mut self, key: DefaultKey, errno: Errno) {
        self.server.report(errno);
        self.hang_up(key);
    }

    /// Closes a connection, or, where an operation is in flight, sees to it
    /// that it ends. glibc cancels none that a thread has begun; but shutting
    /// down a stream's side wakes the call that waits there.
    fn hang_up(&mut self, key: DefaultKey) {
        let Client { operation, is_over, .. } = &mut self.clients[key];
        let Some(transfer) = operation.in_flight() else {
            self.clients.remove(key);
            return self.server.close(key);
        };
        if mem::replace(is_over, true) {
            return;
        }
        let stream = &self.server.connections[key].stream;
        let side = match transfer {
            Transfer::Receive(()) => Shutdown::Read,
            Transfer::Send(()) => Shutdown::Write,
        };
        let _ = shutdown(stream.as_raw_fd(), side);
        if !self.has_threads() {
            self.clients[key].operation.cancel(stream);
        }
    }

    /// Closes those whose time is up, silently, after a last look: what came
    /// in time may still be on its way from a thread to here.
    fn close_timed_out(&mut self) {
        let now = self.server.now;
        if now >= self.overdue_look {
            self.overdue_look = now + ACK_POLL_INTERVAL;
            for (key, received) in mem::take(&mut self.overdue) {
                self.check_timed_out(key, received);
            }
        }
        while let Some(key) = self.server.pop_timed_out() {
            self.overdue.push((key, self.clients[key].operation.received()));
        }
    }

    fn check_timed_out(&mut self, key: DefaultKey, received: u64) {
        let Server { connections, timers, now, .. } = &mut self.server;
        let Some(connection) = connections.get_mut(key) else { return };
        let operation = &self.clients[key].operation;
        if !connection.timer.has_expired(*now) {
            timers.reschedule(key, &mut connection.timer);
        } else if operation.received() == received
            && operation.is_receiving(&connection.stream) == Ok(true)
        {
            self.overdue.push((key, received));
        } else {
            self.hang_up(key);
        }
    }

    /// The first signal starts the drain: no connection is accepted any more,
    /// what has arrived is answered, and each conversation ends. A second
    /// signal ends the server at once, as a failure.
    fn begin_drain(&mut self) -> Result<()> {
        if self.server.drain_until.is_some() {
            bail!("stopped by a second signal");
        }
        let drain_timeout = self.server.config.drain_timeout;
        self.server.drain_until = Some(self.server.now + drain_timeout);
        self.listener = None;
        let keys: Vec<_> = self.clients.keys().collect();
        for key in keys {
            self.drain_client(key);
        }
        Ok(())
    }

    /// Tells a connection to stop; but first it gets what a thread has
    /// received for it, whose completion is about to come.
    fn drain_client(&mut self, key: DefaultKey) {
        let connection = &mut self.server.connections[key];
        let client = &mut self.clients[key];
        if client.is_over {
            return;
        }
        if !client.is_input_drained {
            match client.operation.is_receiving(&connection.stream) {
                Ok(true) => return,
                Ok(false) => {}
                Err(errno) => return self.fail(key, errno),
            }
            client.is_input_drained = true;
            if let Err(errno) = connection.begin_drain() {
                return self.fail(key, errno);
            }
        }
        self.apply_outcome(key);
    }

    /// During the drain, closes the connections whose replies are all
    /// acknowledged.
    fn close_acknowledged(&mut self) {
        for key in self.server.acknowledged() {
            self.hang_up(key);
        }
    }
}
