//! **One thread per client**: the conversation of `blocking`, unchanged, in a
//! thread that is created when a client connects.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!      main |    accept4(listener)           |
//!           |<-------------------------------|  a client has connected
//!           |    pthread_create              |
//!           |--+                             |
//!           |  |    recv(stream)             |
//!           |  |---------------------------->|  nothing has arrived
//!           |  asleep                        |  phase 1: waiting for data
//!           |  :                             |  a segment arrives
//!           |  wakes up in the call          |  phase 2: copying it
//!           |  |<----------------------------|  to the thread's buffer
//!           |  |    the number of bytes      |
//!           |  answers, sends, receives again
//! ```
//!
//! The kernel's scheduler does the work of an event loop: it runs the threads
//! whose calls have something to return. Each thread has its own stack, which
//! holds the state of the conversation while recv(2) waits. A thread costs less
//! than a process, because it shares memory, page tables and descriptors with
//! the others.
//!
//! The program counts its threads and wakes them itself. The registry has all
//! streams; a graceful shutdown calls shutdown(2) on each, which wakes the
//! thread that waits in recv. One that waits in send goes on, until the client
//! reads or the drain timeout ends the program.
//!
//! # System calls
//!
//! clone3(2), through pthread_create(3), and mmap(2) for the thread's stack;
//! otherwise those of `blocking`: accept4(2), recv(2), send(2), shutdown(2),
//! setsockopt(2), recvfrom(2), sendto(2), sigaction(2), ioctl(2).
//!
//! # Limits
//!
//! One descriptor, one thread and 64 KiB of address space per client. An idle
//! client costs 13 KiB of the process's memory, and 26 KiB in the kernel,
//! mostly its thread's kernel stack and task_struct, not counting the two
//! sockets (`cargo xtask compare --full`, x86-64).
//!
//! Which limit is reached first depends on the machine. Under `ulimit -n 4096`
//! it is that of open files (EMFILE; `cargo xtask test --case model::ceiling`).
//! But the hard limit, to which the server raises its own, is 524,288 by
//! default under systemd (systemd-system.conf(5)). There, a limit of threads is
//! reached first (RLIMIT_NPROC, kernel.threads-max, kernel.pid_max, the control
//! group's pids.max), or that of mappings: vm.max_map_count is 65,530 by
//! default (Documentation/admin-guide/sysctl/vm.rst), and a thread requires
//! two, one for its stack and one for the guard page below it, so fewer than
//! 32,765 threads fit. pthread_create reports both with EAGAIN. At each of
//! these limits new connections are rejected, and no other client is affected.
//!
//! # When to use it
//!
//! For up to some thousand clients that keep the processors busy, or whose
//! requests are handled by code that blocks. Idle clients use no processor
//! time, but much memory.
//!
//! # Compare with
//!
//! `process-per-connection`, where the kernel keeps the clients apart;
//! `blocking`, which is this program with one thread; `multiplexing-epoll`,
//! where one thread serves all clients; `worker-pool`, where the threads exist
//! before their clients.
//!
//! # References
//!
//! - UNP, sections 26.4 and 30.10 (one thread per client).
//! - TLPI, chapter 29 (threads) and section 33.1 (thread stacks).
//! - pthread_create(3), pthreads(7).
//! - docs/CLAIMS.md: threads-share-descriptors, thread-creation-cheaper,
//!   ten-thousand-threads, multiplexing-saves-time, multiplexing-saves-more,
//!   multiplexing-saves-memory.

mod accept;
mod conversation;
mod datagrams;
mod drain;
mod queues;
mod registry;
mod thread;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use common::limits::ACCEPT_BACKOFF;
use common::{
    About, Cause, Clients, Config, ConnectionLimit, Model, SpareDescriptor,
    log, reject,
};

use accept::{accept, is_connection_error, is_resource_error};
use conversation::converse;
use registry::{Place, REGISTRY};

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    let mut about = About::new(MODEL.name, "");
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    let mut spare = SpareDescriptor::open()?;
    let limit = ConnectionLimit::new(config, 1);
    drain::install(listener.as_ref(), socket.as_ref())?;
    let datagrams = socket
        .map(|socket| datagrams::start(socket, about.clone()))
        .transpose()?;
    common::announce(tcp, udp)?;

    while let Some(listener) = &listener {
        let accepted = accept(listener, SockFlag::SOCK_CLOEXEC);
        if drain::requested() {
            break;
        }
        match accepted {
            // This connection has taken the descriptor that was kept spare.
            Ok(stream) if !spare.reacquire() => {
                reject(
                    stream,
                    format_args!("no descriptor is left (ulimit -Hn)"),
                );
                about.counters.rejected += 1;
                if !spare.reacquire() {
                    pause(Errno::EMFILE);
                }
            }
            Ok(stream) if !limit.allows(REGISTRY.clients()) => {
                let max = limit.max();
                reject(stream, format_args!("--max-connections {max} reached"));
                about.counters.rejected += 1;
            }
            Ok(stream) => serve_client(stream, config, &mut about),
            Err(Errno::EINTR) => {}
            Err(errno) if is_connection_error(errno) => {}
            // The next accept4 succeeds, because the spare descriptor is free.
            Err(Errno::EMFILE | Errno::ENFILE) if spare.release() => {}
            Err(errno) if is_resource_error(errno) => pause(errno),
            Err(errno) => return Err(errno).context("accept4"),
        }
    }
    drop(listener);
    REGISTRY.drain(config.drain_timeout);
    datagrams.map_or(Ok(()), datagrams::join)
}

/// Starts a thread for a new client, or rejects the connection.
fn serve_client(stream: OwnedFd, config: &Config, about: &mut About) {
    let (place, stream) = Place::take(stream);
    let mut own = about.clone();
    own.counters.accepted += 1;
    own.counters.clients = REGISTRY.clients() as u64;
    let created = thread::create({
        let (stream, config, own) =
            (stream.clone(), config.clone(), own.clone());
        Box::new(move || {
            // Dropped before the stream: its entry must be gone before the
            // descriptor's number can be reused.
            let _place = place;
            converse(&stream, &config, &mut own.here());
        })
    });
    match created {
        Ok(()) => *about = own,
        Err(errno) => {
            reject(
                stream,
                format_args!(
                    "cannot create a thread: {errno} (ulimit -u, ulimit -v)"
                ),
            );
            about.counters.rejected += 1;
        }
    }
}

/// Pauses accepting until a client leaves or the back-off ends, because accept4
/// would only fail again.
fn pause(errno: Errno) {
    log(
        Cause::Accept,
        format_args!("accept4: {errno}; trying again in 100 ms"),
    );
    REGISTRY.wait_for_room(ACCEPT_BACKOFF);
}
