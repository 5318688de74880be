//! **A pool of workers**: a fixed number of threads that exist from the start.
//! Each has the conversation of `blocking`, unchanged, with one client at a
//! time. Further clients wait.
//!
//! # How it works
//!
//! `examples/minimal.rs` and `examples/minimal_queue.rs` are the two variants
//! alone. In `threads`, all workers wait in accept4(2) on the same listener:
//!
//! ```text
//!      application                         kernel
//!   sigwait |  |    accept4(listener)        |
//!           :  |---------------------------->|  the worker is the last of the
//!           :  asleep                        |  waiters
//!           :  :                             |  a client connects: the first
//!           :  |<----------------------------|  waiter wakes up, no other
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
//! No thread is created for a client, so a conversation neither waits for that
//! nor fails for lack of threads. UNP calls such a server prethreaded.
//!
//! A new connection wakes one worker. Workers in accept4 are exclusive waiters,
//! and the kernel wakes the one that has waited longest
//! (net/ipv4/inet_connection_sock.c, inet_csk_wait_for_connect). So accept4
//! requires no lock around it. If the workers waited in poll(2) instead, each
//! connection would wake all of them: a thundering herd. The claim accept-herd
//! in docs/CLAIMS.md counts the threads that wake up.
//!
//! The kernel reserves the descriptor of the next client before accept4 waits
//! (net/socket.c, __sys_accept4_file). So each worker uses one descriptor, also
//! while it has no client, and a worker that waits can't lack one when a client
//! connects. No more workers are started than there are descriptors.
//!
//! In `queue`, one thread accepts, and puts the clients into a bounded queue
//! from which the workers take them (`queue.rs`). A mutex and two condition
//! variables do in the program what the accept queue does in the kernel. That
//! costs a second hand-over for each client. In return the program sees who
//! waits: it could choose who is next, or reject those who wait too long.
//!
//! # System calls
//!
//! clone3(2), through pthread_create(3), and mmap(2) for each worker's stack;
//! sigwait(3) in the main thread; futex(2) for the queue; otherwise those of
//! `blocking`: accept4(2), recv(2), send(2), shutdown(2), setsockopt(2),
//! recvfrom(2), sendto(2), sigaction(2), ioctl(2).
//!
//! # Limits
//!
//! A client occupies a worker until it leaves, even if it is idle. So
//! `--workers` is the number of clients that may be connected at a time, and
//! not a question of processors. The default of 64 is for a service whose
//! clients are other programs, each with a few connections that it keeps. Its
//! threads use less than 1 MiB of the process's memory before their first
//! client. Where idle clients may fill the pool, it requires a short
//! `--idle-timeout`.
//!
//! The next client is not rejected. It is connected, and waits until a worker
//! is free; its idle timeout begins when it is served. In `queue` up to 16
//! clients wait in the program's queue. When that is full, and always in
//! `threads`, they wait in the accept queue, which holds `--backlog` clients,
//! at most net.core.somaxconn. When the accept queue is full too, the kernel
//! drops connection requests. A client's kernel sends its request again, first
//! after a second. A connection is rejected only if `--max-connections` is
//! reached, which counts the clients in the program's queue.
//!
//! One descriptor, one thread and 64 KiB of address space per worker, with or
//! without a client. A worker uses 10 KiB of the process's memory before its
//! first client, and 14 with an idle one, and the kernel's memory for a thread.
//! If a worker can't be created, the server does not start. If accept4 fails
//! for lack of memory or files, the thread pauses; others that fail pause one
//! after the other.
//!
//! # When to use it
//!
//! When the number of clients is known and small, or when it must be bounded
//! because each requires much: a connection to a database, a large library
//! with a state. Not for clients that stay connected and are mostly idle.
//!
//! # Compare with
//!
//! `thread-per-connection`, where no client waits for another one to leave;
//! `blocking`, which is a pool of one; `task-per-connection`, whose workers are
//! with a client only while it has something to do.
//!
//! # References
//!
//! - UNP, sections 30.6 to 30.8 (preforked servers, with and without a lock),
//!   30.11 (each thread accepts) and 30.12 (the main thread does).
//! - TLPI, sections 30.2 (condition variables) and 60.4 (server pools).
//! - accept(2), pthread_create(3), pthread_cond_wait(3), sigwait(3).
//! - docs/CLAIMS.md: accept-herd, accept-queue-full, connect-before-accept.

mod accept;
mod conversation;
mod datagrams;
mod drain;
mod flags;
mod queue;
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
    About, Cause, Clients, Config, ConnectionLimit, Counters, Model, log,
    reject,
};

use accept::{accept, is_connection_error, is_resource_error};
use conversation::converse;
use flags::{Flags, Kind};
use registry::{Place, REGISTRY};

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
    let about = About::new(MODEL.name, flags.kind.name());
    let (listener, tcp) = common::listen(&config)?.unzip();
    let (socket, udp) = common::bind_datagrams(&config)?.unzip();
    let sockets = [&listener, &socket];
    // Their owners keep them open until shutdown is requested.
    let sockets = sockets.map(|it| it.as_ref().map(|it| it.as_raw_fd()));
    let drain_timeout = config.drain_timeout;
    let datagrams = socket
        .map(|socket| datagrams::start(socket, about.clone()))
        .transpose()?;
    if let Some(listener) = listener {
        let pool = Arc::new(Pool::new(config, listener, about));
        let workers = flags.workers();
        match flags.kind {
            Kind::Threads => worker::start(workers, move || pool.work())?,
            Kind::Queue => queue::start(&pool, workers)?,
        }
    }
    common::announce(tcp, udp)?;

    drain::wait_for_signal(&signals)?;
    for socket in sockets.into_iter().flatten() {
        let _ = shutdown(socket, Shutdown::Read);
    }
    REGISTRY.drain(drain_timeout);
    datagrams.map_or(Ok(()), datagrams::join)
}

/// The state that all threads share.
struct Pool {
    config: Config,
    listener: OwnedFd,
    limit: ConnectionLimit,
    about: About,
    /// Held by the thread that pauses before it tries to accept again.
    retries: Mutex<()>,
}

/// A client that was accepted, and is served or waits for a worker. The place
/// is dropped before the stream: its entry must be gone before the descriptor's
/// number can be reused.
struct Client {
    _place: Place,
    stream: Arc<OwnedFd>,
    counters: Counters,
}

impl Pool {
    fn new(config: Config, listener: OwnedFd, about: About) -> Self {
        let limit = ConnectionLimit::new(&config, 1);
        Self { config, listener, limit, about, retries: Mutex::new(()) }
    }

    /// The work of a worker of `threads`: serves one client after the other.
    /// While all workers do, further clients wait in the accept queue.
    fn work(&self) -> Result<()> {
        while let Some(stream) = self.accept()? {
            if let Some(client) = self.admit(stream) {
                self.serve(client);
            }
        }
        Ok(())
    }

    /// Accepts one connection. Returns None once shutdown is requested.
    fn accept(&self) -> Result<Option<OwnedFd>> {
        loop {
            let accepted = accept(&self.listener, SockFlag::SOCK_CLOEXEC);
            if drain::requested() {
                return Ok(None);
            }
            match accepted {
                Ok(stream) => return Ok(Some(stream)),
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                Err(errno) if is_resource_error(errno) => self.pause(errno),
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
    }

    /// Adds a client to the registry, or rejects the connection.
    fn admit(&self, stream: OwnedFd) -> Option<Client> {
        match Place::take(stream, self.limit) {
            Ok((stream, place, counters)) => {
                Some(Client { _place: place, stream, counters })
            }
            Err(stream) => {
                let max = self.limit.max();
                reject(stream, format_args!("--max-connections {max} reached"));
                None
            }
        }
    }

    /// Serves one client from its first byte to its last.
    fn serve(&self, client: Client) {
        let mut about = self.about.clone().here();
        about.counters = client.counters;
        converse(&client.stream, &self.config, &mut about);
    }

    /// Pauses this thread, because accept4 would only fail again. Others that
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
