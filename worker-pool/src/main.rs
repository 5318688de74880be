//! **A pool of workers**: a fixed number of threads or processes that exist
//! from the start. Each has the conversation of `blocking`, unchanged, with one
//! client at a time. Further clients wait.
//!
//! # How it works
//!
//! There are three variants, each with a program that is this variant alone:
//!
//! - `threads` (`examples/minimal.rs`): the workers are threads, and all wait
//!   in accept4(2) on the same listener. This file is about them.
//! - `queue` (`examples/minimal_queue.rs`, `src/queue.rs`): one thread accepts,
//!   and puts the clients into a queue from which the worker threads take them.
//! - `processes` (`examples/minimal_processes.rs`, `src/processes.rs`): the
//!   workers are processes. The parent forks them before it serves, and all
//!   wait in accept4 on the listener that they have inherited.
//!
//! In `threads` and `processes` a worker does this:
//!
//! ```text
//!      application                         kernel
//!      main |  |    accept4(listener)        |
//!           :  |---------------------------->|  the worker is now the last of
//!           :  asleep                        |  those that wait
//!           :  :                             |  a client connects; this worker
//!           :  |<----------------------------|  is first by now, and wakes up
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
//! No thread or process is created for a client, so a conversation neither
//! waits for that nor fails for lack of them. UNP calls such servers
//! prethreaded and preforked. The main thread, or the parent process, only
//! waits for signals.
//!
//! A new connection wakes one worker. Workers in accept4 are exclusive waiters,
//! and the kernel wakes the one that has waited longest
//! (net/ipv4/inet_connection_sock.c, inet_csk_wait_for_connect). It makes no
//! difference whether threads or processes wait for the socket. If the workers
//! waited in poll(2) instead, each connection would wake all of them: a
//! thundering herd. The claim accept-herd in docs/CLAIMS.md counts those that
//! wake up.
//!
//! Is a lock around accept needed today? No. It makes a connection wake up one
//! worker only, and the kernel does that by itself. UNP has a lock for kernels
//! that wake all waiters, or in which several processes can't wait in accept at
//! a time. `--accept-lock` adds it, to measure what it costs: a lock on a file,
//! or a mutex in shared memory (`src/accept_lock.rs`). Then one worker waits in
//! accept4, and the others wait for the lock.
//!
//! The kernel reserves the descriptor of the next client before accept4 waits
//! (net/socket.c, __sys_accept4_file). So each worker uses one descriptor, also
//! while it has no client, and a worker that waits can't lack one when a client
//! connects. Threads share the descriptors of their process, and no more are
//! started than there are descriptors. A process has a table of its own.
//!
//! In `queue`, a mutex and two condition variables do in the program what the
//! accept queue does in the kernel. That costs a second hand-over for each
//! client. In return the program sees who waits: it could choose who is next,
//! or reject those who wait too long.
//!
//! In `threads` and `queue`, a panic ends one client, and its worker goes on. A
//! crash such as SIGSEGV ends the server, with all clients.
//!
//! In `processes`, a worker that crashes cuts off one client, and the parent
//! starts another worker: at once, or a second after the last start if the
//! worker has died sooner. The memory that the processes share has counts and
//! locks only. In it, each client has a slot with the id of its process, so
//! that the parent can free the slot of a process that was killed. If the
//! parent dies, the kernel kills its children (PR_SET_PDEATHSIG, prctl(2)).
//!
//! # System calls
//!
//! Those of `blocking`: accept4(2), recv(2), send(2), shutdown(2),
//! setsockopt(2), recvfrom(2), sendto(2), sigaction(2), ioctl(2). In `threads`
//! and `queue`: clone3(2), through pthread_create(3), mmap(2) for each worker's
//! stack, sigwait(3) in the main thread, and futex(2) for the queue. In
//! `processes`: mmap(2) for the shared memory, and in the parent fork(2),
//! poll(2), signalfd(2) and read(2) on it, waitpid(2) and kill(2); in a worker
//! prctl(2). With a lock: memfd_create(2) and fcntl(2), or futex(2).
//!
//! # Limits
//!
//! A client occupies a worker until it leaves, even if it is idle. So
//! `--workers` is the number of clients that may be connected at a time, and
//! not a question of processors. The default of 64 is for a service whose
//! clients are other programs, each with a few connections that it keeps. Where
//! idle clients may fill the pool, it requires a short `--idle-timeout`.
//!
//! The next client is not rejected. It is connected, and waits until a worker
//! is free; its idle timeout begins when it is served. In `queue` up to 16
//! clients wait in the program's queue. When that is full, and always in the
//! other variants, they wait in the accept queue, which holds `--backlog`
//! clients, at most net.core.somaxconn. When the accept queue is full too, the
//! kernel drops connection requests. A client's kernel sends its request again,
//! first after a second. A connection is rejected only if `--max-connections`
//! is reached; clients in the program's queue count too.
//!
//! A worker has a descriptor and memory with or without a client. A thread uses
//! 10 KiB of the process's memory before its first client, and 14 with an idle
//! one, the kernel's memory for a thread, and 64 KiB of address space. A
//! process uses 40 KiB before its first client, and 55 with an idle one, and
//! the kernel's memory for a process. These are pages that it has written to;
//! it shares all others with its parent (copy-on-write, fork(2)).
//!
//! If a worker can't be created, the server does not start. A process that
//! can't be replaced is tried again after a second. fork fails with EAGAIN at
//! the limit of processes (RLIMIT_NPROC, kernel.pid_max, kernel.threads-max,
//! the control group's pids.max). If accept4 fails for lack of memory or files,
//! the worker pauses; others that fail pause one after the other.
//!
//! # When to use it
//!
//! When the number of clients is known and small, or when it must be bounded
//! because each requires much: a connection to a database, a large library
//! with a state. Processes, if the code may crash, or isn't safe for threads.
//! Not for clients that stay connected and are mostly idle.
//!
//! # Compare with
//!
//! `thread-per-connection` and `process-per-connection`, where no client waits
//! for another one to leave; `blocking`, which is a pool of one;
//! `task-per-connection`, whose workers are with a client only while it has
//! something to do.
//!
//! # References
//!
//! - UNP, sections 30.6 to 30.8 (preforked servers, without a lock, with one on
//!   a file and with a mutex), 30.11 (each thread accepts) and 30.12 (the main
//!   thread does).
//! - TLPI, sections 24.2 (fork: shared files, copy-on-write), 30.2 (condition
//!   variables), 49.7 (shared anonymous mappings), 55.3 (record locks) and 60.4
//!   (server pools).
//! - accept(2), fork(2), fcntl(2), mmap(2), prctl(2), pthread_create(3),
//!   pthread_cond_wait(3), pthread_mutexattr_setrobust(3), sigwait(3).
//! - docs/CLAIMS.md: accept-herd, accept-queue-full, connect-before-accept.

mod accept;
mod accept_lock;
mod conversation;
mod datagrams;
mod drain;
mod flags;
mod mutex;
mod processes;
mod queue;
mod queues;
mod registry;
mod shared;
mod worker;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, SockFlag, shutdown};

use common::limits::ACCEPT_BACKOFF;
use common::{
    About, Cause, Clients, Config, ConnectionLimit, Counters, Model, log,
    reject,
};

use accept::{accept, is_connection_error, is_resource_error};
use accept_lock::AcceptLock;
use conversation::converse;
use flags::{Flags, Kind};
use mutex::SharedMutex;
use registry::{Place, REGISTRY};

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    flags.check();
    common::conclude(match flags.kind {
        Kind::Threads | Kind::Queue => serve(config, flags),
        Kind::Processes => processes::serve(config, flags),
    })
}

fn serve(config: Config, flags: Flags) -> Result<()> {
    // The threads inherit which signals are blocked, so that comes first.
    let signals = drain::block_signals()?;
    let about = About::new(MODEL.name, flags.kind.name());
    let (listener, tcp) = common::listen(&config)?.unzip();
    let (socket, udp) = common::bind_datagrams(&config)?.unzip();
    let sockets = [&listener, &socket];
    // Their owners may close them once shutdown is requested, just before they
    // are shut down here. Then the call fails, or meets a connection that was
    // accepted since, which `Pool::accept` drops anyway.
    let sockets = sockets.map(|it| it.as_ref().map(|it| it.as_raw_fd()));
    let drain_timeout = config.drain_timeout;
    let datagrams = socket
        .map(|socket| datagrams::start(socket, about.clone()))
        .transpose()?;
    if let Some(listener) = listener {
        let pool = Arc::new(Pool::new(config, listener, flags, about)?);
        let workers = flags.workers();
        if flags.kind == Kind::Queue {
            queue::start(&pool, workers)?;
        } else {
            worker::start(workers, move || pool.work())?;
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

/// The state that all workers share.
struct Pool {
    config: Config,
    listener: OwnedFd,
    limit: ConnectionLimit,
    about: About,
    /// Held by the worker that waits for a client, if it is not `None`.
    accept_lock: AcceptLock,
    /// Locked by the worker that pauses before it tries to accept again.
    retries: &'static SharedMutex,
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
    fn new(
        config: Config,
        listener: OwnedFd,
        flags: Flags,
        about: About,
    ) -> Result<Self> {
        Ok(Self {
            limit: ConnectionLimit::new(&config, flags.client_descriptors()),
            accept_lock: AcceptLock::new(flags.accept_lock)?,
            retries: SharedMutex::new()?,
            config,
            listener,
            about,
        })
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
            let held = self.accept_lock.acquire();
            let accepted = held.and_then(|_held| {
                accept(&self.listener, SockFlag::SOCK_CLOEXEC)
            });
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

    /// Pauses this worker, because accept4 would only fail again. Others that
    /// fail too pause one after the other, so that a large pool doesn't try
    /// more often than a single worker would.
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
