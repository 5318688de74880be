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
//! There is no aio_accept. The listener is signal-driven instead: the kernel
//! sends SIGIO, and the program accepts until the accept queue is empty.
//!
//! A connection has one operation at a time, a read or a write, because glibc
//! runs the operations on one descriptor one after another: a write would wait
//! behind a read that waits for the client. So nothing is read during a write,
//! and a client that does not read its replies is not read from.
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
//! - One thread per client, even for an idle one: 10 KiB of memory, its buffer
//!   included, and 26 KiB in the kernel, mostly its stack and task_struct
//!   (`cargo xtask compare --full`, x86-64). glibc's default is 20 threads;
//!   aio_init(3) raises that.
//! - Threads and queued signals can run out, which glibc mostly does not
//!   report. `room.rs` computes the client limit from the system's limits, and
//!   `shortage.rs` has what happens if they are reached all the same.
//! - Time per operation grows with the number of clients: glibc searches a list
//!   for the descriptor (sysdeps/pthread/aio_misc.c), and the kernel, while the
//!   main thread is busy, searches all threads for one that does not block the
//!   signal (kernel/signal.c, complete_signal). Among 1,000 idle clients a PING
//!   costs 0.08 ms of processor time, among 10,000 it costs 0.8 ms (`cargo
//!   xtask compare --full`, docs/RESULTS.md).
//! - A new client is accepted soon, but its first completion is queued behind
//!   one or two completions of each busy client (`cargo xtask test
//!   async-io/posix-aio --case under_load::accept` has 400 of them, and allows
//!   ten of each).
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
//! - docs/CLAIMS.md: copies-posix-aio, posix-aio-sockets, aio-linux-native.

mod acceptor;
mod drain;
mod operation;
mod room;
mod shortage;
mod signals;

use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use slotmap::{DefaultKey, SecondaryMap};

use common::{Cause, Config, log};

use crate::MODEL;
use crate::connection::Outcome;
use crate::server::Server;
use operation::{Operation, Transfer};
use room::{Ceiling, Threads};
use signals::{Event, Signals};

/// The most signals that are handled before new clients and timers have their
/// turn.
const SIGNALS_PER_ROUND: usize = 64;

const NO_DATAGRAMS: &str = "posix-aio serves no datagrams, because aio_read(3) \
                            gives no source address to answer";

pub fn serve(config: &Config) -> Result<()> {
    config.reject_datagrams(&MODEL, NO_DATAGRAMS);
    // Never dropped: however the loop ends, operations may be in flight, and
    // threads may use their buffers until the process has ended.
    let mut aio = ManuallyDrop::new(PosixAio::new(config)?);
    aio.run()
}

/// The server, and the operations in flight, one per client.
struct PosixAio<'a> {
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
    next_scan: Instant,
    /// True if the last scan found fewer threads than clients, and the one
    /// before did not.
    thread_missing: bool,
}

/// This variant's state of a connection. A key is never used twice, so a stale
/// signal finds no client.
struct Client {
    operation: Operation,
    /// True once the connection is to be closed, as soon as its operation is
    /// complete.
    is_over: bool,
}

impl<'a> PosixAio<'a> {
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
            next_scan: server.now,
            thread_missing: false,
            server,
        })
    }

    fn run(&mut self) -> Result<()> {
        while !self.server.has_finished() {
            let mut until = self.next_deadline();
            for _ in 0..SIGNALS_PER_ROUND {
                let signal = self.signals.next(until)?;
                self.server.now = Instant::now();
                match signal {
                    Some(Event::Completed(key)) => self.on_completed(key),
                    Some(Event::Connected) => self.has_new_clients = true,
                    Some(Event::Shutdown) => self.begin_drain()?,
                    None => break,
                }
                // Waits for the first signal only, and takes others if they are
                // pending.
                until = Some(self.server.now);
            }
            self.accept_pending()?;
            self.close_timed_out();
            self.close_acknowledged();
            self.scan();
        }
        common::report_cut_off(self.server.connections.len());
        Ok(())
    }

    /// Returns when the next wait must end even if no signal comes.
    fn next_deadline(&self) -> Option<Instant> {
        let now = self.server.now;
        let moments = [
            self.server.next_deadline(),
            self.may_accept().then_some(now),
            (!self.clients.is_empty()).then_some(self.next_scan),
        ];
        moments.into_iter().flatten().min()
    }

    /// Handles a completion signal. It is stale if the operation is not
    /// complete.
    fn on_completed(&mut self, key: DefaultKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(finished) = client.operation.finish() else { return };
        if client.is_over {
            return self.hang_up(key);
        }
        let Server { connections, pool, about, .. } = &mut self.server;
        let connection = &mut connections[key];
        let handed_over = match finished {
            Transfer::Receive(Ok(0)) => {
                connection.on_end_of_file();
                Ok(())
            }
            Transfer::Receive(Ok(received)) => {
                let input = client.operation.input(received);
                connection.on_received(input, pool, about)
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
                self.drain_client(key);
            }
            Ok(()) => self.apply_outcome(key),
            Err(Errno::EAGAIN) => self.give_up(key),
            Err(errno) => self.fail(key, errno),
        }
    }

    /// Acts on the outcome of a completion: closes the connection, or starts
    /// its next operation.
    fn apply_outcome(&mut self, key: DefaultKey) {
        let Server { connections, timers, pool, about, .. } = &mut self.server;
        let connection = &mut connections[key];
        match connection.flush_and_advance(pool, about) {
            Ok(Outcome::GoesOn) => {
                if let Some(timeout) = connection.timeout.take() {
                    timers.start(key, timeout, Instant::now());
                }
                self.start(key);
            }
            Ok(Outcome::Ended) => self.hang_up(key),
            Err(errno) => self.fail(key, errno),
        }
    }

    /// Starts the next operation, if none is in flight. There is one at a time,
    /// because glibc runs those on one descriptor one after another, and
    /// replies would wait behind a read.
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
    fn close_timed_out(&mut self) {
        while let Some(key) = self.server.pop_timed_out() {
            self.hang_up(key);
        }
    }
}
