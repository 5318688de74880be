//! **POSIX AIO**: the program calls aio_read(3) and aio_write(3), which return
//! at once. The C library carries them out on threads of its own, and a signal
//! reports each completion.
//!
//! # How it works
//!
//! `examples/minimal_posix_aio.rs` is this variant alone.
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
//! For the main thread this is asynchronous I/O. But glibc uses no asynchronous
//! call of the kernel: for each operation, one of its threads waits in a plain
//! read(2) or write(2). So this variant is `thread-per-connection` with a queue
//! in front. For the same reason the streams are blocking: on a non-blocking
//! one read(2) would return EAGAIN, and the operation would fail at once.
//!
//! There is no aio_accept. The listener is signal-driven instead: it sends
//! SIGIO, and the program accepts until the accept queue is empty.
//!
//! A connection has one operation at a time, a read or a write, because glibc
//! carries out those on one descriptor in turn: a write would wait behind a
//! read that waits for the client. So nothing is read during a write, and a
//! client that does not read its replies is not read from.
//!
//! An operation that a thread has begun can't be cancelled (AIO_NOTCANCELED).
//! It ends through shutdown(2) of the stream, after which read(2) returns end
//! of file, or write(2) EPIPE. Only then is the stream closed.
//!
//! # System calls
//!
//! The library functions aio_init(3), aio_read(3), aio_write(3), aio_error(3),
//! aio_return(3) and aio_cancel(3) make these calls: clone3(2); pread64(2) and
//! pwrite64(2), which fail with ESPIPE on a stream; read(2), write(2),
//! rt_sigqueueinfo(2) and futex(2). The program itself: sigtimedwait(2),
//! fcntl(2) (F_SETOWN, O_ASYNC), accept4(2), shutdown(2), getsockopt(2)
//! (TCP_INFO), ioctl(2) (tcp(7)).
//!
//! # Limits
//!
//! - One thread per client, even for an idle one. glibc's default is 20
//!   threads, and the 21st client would wait until another one's operation is
//!   complete; aio_init(3) raises that. A client costs 12 KiB of memory, its
//!   buffer included, and 23 KiB in the kernel, mostly its thread's kernel
//!   stack and task_struct, not counting the two sockets (`cargo xtask compare
//!   --full`, x86-64).
//! - Queued signals: each operation in flight may need one for its completion,
//!   and one more for a SIGPIPE, which its thread blocks. So the client limit
//!   is half of what RLIMIT_SIGPENDING leaves at the start. That limit is
//!   shared by all processes of the user. If the others use it up later, a
//!   completion has no signal, and glibc writes EAGAIN over its result
//!   (sysdeps/pthread/aio_notify.c): the number of bytes is lost, although they
//!   have left the socket. A scan of all operations in flight, once a second,
//!   finds such a completion and ends that conversation only.
//! - Threads: RLIMIT_NPROC, kernel.threads-max, kernel.pid_max, and
//!   vm.max_map_count, with two mappings per thread. The lowest of all these is
//!   the client limit. Once glibc has one thread, it does not report that it
//!   can't create another, so the server counts its threads, and rejects the
//!   new clients that would have none. If the limit is reached later, a
//!   connected client waits until a thread can be created, which is tried once
//!   a second, or until another client's operation is complete.
//! - Time per operation grows with the number of clients: glibc searches a list
//!   for the descriptor (sysdeps/pthread/aio_misc.c), and the kernel, while the
//!   main thread is busy, searches all threads for one that does not block the
//!   signal (kernel/signal.c, complete_signal). Among 1,000 idle clients a PING
//!   costs 0.06 ms of processor time, among 10,000 it costs 1.1 ms (`cargo
//!   xtask compare --full`, README.md).
//! - A new client is accepted soon, but its first completion is queued behind
//!   one or two of each busy client (`cargo xtask test async-io/posix-aio
//!   --case under_load::accept` has 400 of them, and allows ten of each).
//!
//! # When to use it
//!
//! For files, on systems whose kernel carries out POSIX AIO. On Linux, to see
//! why io_uring was made.
//!
//! # Compare with
//!
//! `thread-per-connection`, which does the same openly; `uring.rs`, where no
//! other thread is needed; `signal-driven`, where a signal reports that a read
//! would not wait, not that it is complete.
//!
//! # References
//!
//! - aio(7), aio_init(3).
//! - UNP, section 6.2: asynchronous I/O.
//! - glibc, sysdeps/pthread/aio_misc.c: the queue and its threads.

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

/// The most signals that are handled before new clients and timers have their
/// turn.
const SIGNALS_PER_ROUND: usize = 64;

/// How often the operations in flight are scanned for one whose signal was
/// lost.
const SCAN_PERIOD: Duration = Duration::from_secs(1);

/// How long glibc may take to create a thread before the scan acts: longer than
/// the time from one operation of a client to its next.
const THREAD_LOOK: Duration = Duration::from_millis(100);

const NO_DATAGRAMS: &str = "posix-aio serves no datagrams, because aio_read(3) \
                            gives no source address to answer";

pub fn serve(config: &Config) -> Result<()> {
    config.reject_datagrams(&MODEL, NO_DATAGRAMS);
    // Never dropped: however the loop ends, operations may be in flight, and
    // threads may use their buffers until the process has ended.
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
            // Waits for the first signal only, and takes others if they are
            // pending.
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

/// The server, and the operations in flight, one per client.
struct Engine<'a> {
    server: Server<'a>,
    ceiling: Ceiling,
    threads: Threads,
    signals: Signals,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    /// True while the accept queue may hold connections, which no further
    /// signal reports.
    has_new_clients: bool,
    clients: SecondaryMap<DefaultKey, Client>,
    /// Clients whose idle timeout has expired, and the bytes received from them
    /// by then. Each is closed unless input is on its way.
    overdue: Vec<(DefaultKey, u64)>,
    overdue_look: Instant,
    next_scan: Instant,
    /// True if the last scan found fewer threads than clients, and the one
    /// before did not.
    thread_missing: bool,
}

/// The engine's state of a connection. A key is never used twice, so a stale
/// signal finds no client.
struct Client {
    operation: Operation,
    /// True once `Connection::begin_drain` has been called.
    is_input_drained: bool,
    /// True once the connection is to be closed, as soon as its operation is
    /// complete.
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
            // Clients may have connected before the listener sent signals.
            has_new_clients: true,
            clients: SecondaryMap::new(),
            overdue: Vec::new(),
            overdue_look: server.now,
            next_scan: server.now,
            thread_missing: false,
            server,
        })
    }

    /// Returns when the next wait must end even if no signal comes.
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

    /// True while the accept queue may hold connections, and accepting is not
    /// paused.
    fn may_accept(&self) -> bool {
        self.has_new_clients
            && self.listener.is_some()
            && self.server.paused_until.is_none()
    }

    /// Accepts until the accept queue is empty, because no signal reports a
    /// connection that is left there, but only up to a limit per round.
    fn accept_pending(&mut self) -> Result<()> {
        let server = &mut self.server;
        server.paused_until.take_if(|until| *until <= server.now);
        let mut new_clients = Vec::new();
        for _ in 0..ACCEPTS_PER_ROUND {
            if !self.may_accept() {
                break;
            }
            let Some(listener) = &self.listener else { break };
            // The stream is blocking, because a helper thread waits in read.
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

    /// Rejects the new connections for which no thread can be created. glibc
    /// does not report that: their reads would wait for a thread of another
    /// client, or would use an idle one that its client needs. So only the
    /// number of threads counts, not which of them does what.
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

    /// True if there is a thread per client, besides the main thread.
    fn has_threads(&self) -> bool {
        self.threads.count() > self.clients.len()
    }

    /// Rejects a new client that has already been added.
    fn reject(&mut self, key: DefaultKey, why: &str) {
        let stream = &self.server.connections[key].stream;
        reject(stream, format_args!("{why}"));
        self.server.about.counters.accepted -= 1;
        self.server.about.counters.rejected += 1;
        self.hang_up(key);
    }

    /// Handles a completion signal. It is stale if the operation is not
    /// complete.
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
            // It was cancelled before a thread began it: it is started again.
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

    /// Acts on the outcome of a completion: closes the connection, or starts
    /// its next operation.
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

    /// Starts the next operation, if none is in flight. There is one at a time,
    /// because glibc carries out those on one descriptor in turn, and replies
    /// would wait behind a read.
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
            // There is no memory, or no helper thread at all: the scan tries
            // again.
            Err(Errno::EAGAIN) => log(
                Cause::Conversation,
                format_args!(
                    "cannot start an operation: no memory or no thread \
                     (ulimit -u, ulimit -v); trying again within 1 s"
                ),
            ),
            Err(errno) => self.fail(key, errno),
        }
    }

    /// Once a second, finds operations whose completion signal was lost, and
    /// starts operations that could not be started. If a thread is still
    /// missing, cancels the operations that no thread has begun: each completes
    /// with ECANCELED and is started again, and glibc then tries again to
    /// create a thread.
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

    /// Ends a conversation whose last operation is complete, but whose result
    /// was lost together with its signal.
    fn give_up(&mut self, key: DefaultKey) {
        log(
            Cause::Conversation,
            format_args!(
                "a conversation failed: the queue of signals was full, and \
                 a completion was lost (ulimit -i)"
            ),
        );
        self.hang_up(key);
    }

    fn fail(&mut self, key: DefaultKey, errno: Errno) {
        self.server.report(errno);
        self.hang_up(key);
    }

    /// Closes a connection. If an operation is in flight, ends that first:
    /// glibc can't cancel one that a thread has begun, but a shutdown of the
    /// stream wakes the call that the thread waits in.
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

    /// Closes connections whose idle timeout has expired, without a reply.
    /// Input that arrived in time may still be on its way from a helper thread,
    /// so each is checked some time later.
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

    /// Closes a connection unless its timer was restarted or input is on its
    /// way.
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

    /// Begins the drain of a connection, but not before the completion of input
    /// that a thread has already received.
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
