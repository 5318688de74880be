//! **A pool of workers**: a fixed number of threads that exist from the start.
//! All of them wait in accept4(2) on the same listener, and each has the
//! conversation of `blocking`, unchanged, with one client at a time.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!      main |    pthread_create, 64 times    |
//!           |--+                             |
//!           |  |    accept4(listener)        |
//!    sigwait|  |---------------------------->|  the worker joins the queue of
//!           :  asleep                        |  waiters
//!           :  :                             |  a client connects: the kernel
//!           :  |<----------------------------|  wakes the first waiter only
//!           :  |    recv(stream)             |
//!           :  |---------------------------->|  nothing has arrived
//!           :  asleep                        |  phase 1: waiting for data
//!           :  :                             |  a segment arrives
//!           :  wakes up in the call          |  phase 2: copying it
//!           :  |<----------------------------|  to the worker's buffer
//!           :  |    the number of bytes      |
//!           :  answers, sends, receives again, until the client leaves;
//!           :  accepts again
//! ```
//!
//! No thread is created for a client, so neither the time nor a failure of that
//! is part of a conversation. UNP calls this a prethreaded server.
//!
//! One new connection wakes one worker. The workers queue up as exclusive
//! waiters, and the kernel wakes the one that has waited longest
//! (net/ipv4/inet_connection_sock.c, inet_csk_wait_for_connect). So accept4
//! needs no lock around it. If the workers waited in poll(2) instead, each
//! connection would wake all of them: a thundering herd. The claim accept-herd
//! in docs/CLAIMS.md counts both.
//!
//! The kernel reserves the descriptor of the next client before accept4 waits
//! (net/socket.c, __sys_accept4_file). So each worker needs one descriptor,
//! also when it is idle, and a worker that waits can't lack one when a client
//! connects. No more workers are started than there are descriptors.
//!
//! # System calls
//!
//! clone3(2), through pthread_create(3), and mmap(2) for each worker's stack;
//! sigwait(3) in the main thread; otherwise those of `blocking`: accept4(2),
//! recv(2), send(2), shutdown(2), setsockopt(2), recvfrom(2), sendto(2),
//! sigaction(2), ioctl(2).
//!
//! # Limits
//!
//! A client occupies a worker until it leaves, also when it is idle. So
//! `--workers` is the number of clients served at a time, and not a matter of
//! the processors. The default of 64 is enough for a pool of connections that
//! another program keeps, and its threads cost less than 2 MiB. Idle clients
//! occupy workers until the idle timeout; a pool that they may fill needs a
//! short one.
//!
//! The next client waits in the accept queue, connected, until a worker is
//! free. It isn't rejected, and its idle timeout begins when it is accepted.
//! The accept queue holds `--backlog` clients, at most net.core.somaxconn; when
//! it is full, the kernel drops connection requests, and the client's kernel
//! sends them again, first after a second. A connection is rejected only if
//! `--max-connections` is less than the number of workers.
//!
//! One descriptor, one thread and 64 KiB of address space per worker. If a
//! worker can't be created, the server does not start. If accept4 fails for
//! lack of memory or files, that worker pauses; others that fail wait for their
//! turn to try again.
//!
//! # When to use it
//!
//! When the number of clients is known and small, or when their number must be
//! bounded because each request needs much: a pool of connections to a
//! database, a process that loads a large library. Not for clients that stay
//! connected and are mostly idle.
//!
//! # Compare with
//!
//! `thread-per-connection`, where a client never waits for another to leave;
//! `blocking`, which is a pool of one; `task-per-connection`, whose workers
//! hold a client only while it has something to do.
//!
//! # References
//!
//! - UNP, sections 30.6 to 30.8 (preforked: no lock, a file lock, a thread
//!   lock), 30.11 and 30.12 (prethreaded: each accepts, or the main thread).
//! - TLPI, section 60.4 (server pools).
//! - accept(2), pthread_create(3), sigwait(3).
//! - docs/CLAIMS.md: accept-herd, accept-queue-full, connect-before-accept.

mod accept;
mod conversation;
mod datagrams;
mod drain;
mod queues;
mod registry;
mod worker;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, SockFlag, shutdown};

use common::limits::ACCEPT_BACKOFF;
use common::{
    About, Cause, Clients, Config, ConnectionLimit, Model, log, reject,
};

use accept::{accept, is_connection_error, is_resource_error};
use conversation::converse;
use registry::{Place, REGISTRY};
use worker::Flags;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags(&MODEL);
    common::conclude(serve(config, flags))
}

fn serve(config: Config, flags: Flags) -> Result<()> {
    // The threads inherit which signals are blocked, so that comes first.
    let signals = drain::block_signals()?;
    let (listener, tcp) = common::listen(&config)?.unzip();
    let (socket, udp) = common::bind_datagrams(&config)?.unzip();
    let sockets = [&listener, &socket];
    // Their owners keep them open until shutdown is requested.
    let sockets = sockets.map(|it| it.as_ref().map(|it| it.as_raw_fd()));
    let drain_timeout = config.drain_timeout;
    let datagrams = socket
        .map(|socket| datagrams::start(socket, About::new(MODEL.name, "")))
        .transpose()?;
    if let Some(listener) = listener {
        let limit = ConnectionLimit::new(&config, 1);
        let retries = Mutex::new(());
        let pool = Arc::new(Pool { config, listener, limit, retries });
        worker::start(&pool, flags)?;
    }
    common::announce(tcp, udp)?;

    drain::wait_for_signal(&signals)?;
    for socket in sockets.into_iter().flatten() {
        let _ = shutdown(socket, Shutdown::Read);
    }
    REGISTRY.drain(drain_timeout);
    datagrams.map_or(Ok(()), datagrams::join)
}

/// What the workers share.
struct Pool {
    config: Config,
    listener: OwnedFd,
    limit: ConnectionLimit,
    /// Held by the worker that pauses before it tries to accept again.
    retries: Mutex<()>,
}

impl Pool {
    /// The work of each worker: serves one client after the other, until
    /// shutdown is requested.
    fn work(&self) -> Result<()> {
        loop {
            let accepted = accept(&self.listener, SockFlag::SOCK_CLOEXEC);
            if drain::requested() {
                return Ok(());
            }
            match accepted {
                Ok(stream) => self.serve_client(stream),
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                Err(errno) if is_resource_error(errno) => self.pause(errno),
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
    }

    /// Serves a new client, or rejects the connection. Further clients wait in
    /// the accept queue while all workers are here.
    fn serve_client(&self, stream: OwnedFd) {
        match Place::take(stream, self.limit) {
            // The place is dropped before the stream: its entry must be gone
            // before the descriptor's number can be reused.
            Ok((stream, _place, counters)) => {
                let mut about = About::new(MODEL.name, "");
                about.counters = counters;
                converse(&stream, &self.config, &mut about);
            }
            Err(stream) => {
                let max = self.limit.max();
                reject(stream, format_args!("--max-connections {max} reached"));
            }
        }
    }

    /// Pauses this worker, because accept4 would only fail again. Others that
    /// fail too pause one after the other, so that a large pool doesn't try
    /// more often than a single thread would.
    fn pause(&self, errno: Errno) {
        let turn = self.retries.lock();
        if !drain::requested() {
            log(
                Cause::Accept,
                format_args!("accept4: {errno}; trying again in 100 ms"),
            );
            std::thread::sleep(ACCEPT_BACKOFF);
        }
        drop(turn);
    }
}
