//! **One thread for each client**: the conversation of `blocking`, line for
//! line, and as many of them at a time as there are threads.
//!
//! # How it works
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
//!           |  :                             |  phase 2: copying it
//!           |  |<----------------------------|  to the thread's buffer
//!           |  |    the number of bytes      |
//!           |  awake: answers, sends, and asks again
//! ```
//!
//! The scheduler does what an event loop would do: it knows which thread has
//! something to do. A thread costs less than a process (no page tables, no
//! descriptor table), shares all memory with the others, and is counted and
//! waited for by hand: the registry knows every stream, so that a stop reaches
//! those who wait.
//!
//! # System calls
//!
//! clone3(2), through pthread_create(3), mmap(2) for its stack; otherwise
//! those of `blocking`: accept4(2), recv(2), send(2), shutdown(2),
//! setsockopt(2), recvfrom(2), sendto(2), sigaction(2), ioctl(2).
//!
//! # Limits
//!
//! One descriptor, one thread and 64 KiB of address space per client. An idle
//! client costs 13 KiB of the process's memory, and 23 KiB in the kernel,
//! mostly its thread's kernel stack and task_struct, not counting the two
//! sockets (`cargo xtask compare --full`, x86-64).
//!
//! Which limit comes first depends on the machine. Under `ulimit -n 4096` it is
//! that of open files (EMFILE; `cargo xtask test --case model::ceiling`). But
//! the hard limit, to which the server raises its own, is 524,288 by default
//! under systemd (systemd-system.conf(5)). There a limit of threads comes first
//! (RLIMIT_NPROC, kernel.threads-max, kernel.pid_max, the control group's
//! pids.max), or that of mappings: vm.max_map_count is 65,530 by default
//! (Documentation/admin-guide/sysctl/vm.rst), and a thread needs two, one for
//! its stack and one for the guard page below, so fewer than 32,765 threads
//! fit. pthread_create reports both with EAGAIN. At each of these limits new
//! connections are rejected, and no other client is affected.
//!
//! # When to use it
//!
//! Up to some thousand clients that keep a processor busy, or whose handling
//! must call code that waits. Idle clients are cheap to schedule and dear to
//! hold.
//!
//! # Compare with
//!
//! `process-per-connection`, where the kernel keeps the clients apart;
//! `blocking`, which is this program with one thread; `multiplexing-epoll`,
//! where one thread does it all.

mod accept;
mod conversation;
mod datagrams;
mod queues;
mod registry;
mod stop;
mod thread;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use common::limits::SHORTAGE_PAUSE;
use common::{
    About, Admission, Cause, Clients, Config, Model, Reserve, notice, refuse,
};

use accept::{accept, broke_off, is_refused};
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
    let mut reserve = Reserve::hold()?;
    let admission = Admission::new(config, 1);
    stop::install(listener.as_ref(), socket.as_ref())?;
    let datagrams = socket
        .map(|socket| datagrams::start(socket, about.clone()))
        .transpose()?;
    common::announce(tcp, udp)?;

    while let Some(listener) = &listener {
        let accepted = accept(listener, SockFlag::SOCK_CLOEXEC);
        if stop::requested() {
            break;
        }
        match accepted {
            // It came in with the last descriptor, which was the reserve's.
            Ok(newcomer) if !reserve.retake() => {
                refuse(
                    newcomer,
                    format_args!("no descriptor is left (ulimit -Hn)"),
                );
                about.counters.refused += 1;
                if !reserve.retake() {
                    pause(Errno::EMFILE);
                }
            }
            Ok(newcomer) if !admission.admits(REGISTRY.clients()) => {
                let places = admission.places();
                refuse(newcomer, format_args!("all {places} places are taken"));
                about.counters.refused += 1;
            }
            Ok(stream) => welcome(stream, config, &mut about),
            Err(Errno::EINTR) => {}
            Err(errno) if broke_off(errno) => {}
            // The next accept4 succeeds, with the reserve's descriptor.
            Err(Errno::EMFILE | Errno::ENFILE) if reserve.release() => {}
            Err(errno) if is_refused(errno) => pause(errno),
            Err(errno) => return Err(errno).context("accept4"),
        }
    }
    drop(listener);
    REGISTRY.drain(config.drain_timeout);
    datagrams.map_or(Ok(()), datagrams::join)
}

/// Gives a newcomer a thread of its own, or tells it that there is none.
fn welcome(stream: OwnedFd, config: &Config, about: &mut About) {
    let (place, stream) = Place::take(stream);
    let mut own = about.clone();
    own.counters.accepted += 1;
    own.counters.clients = REGISTRY.clients() as u64;
    let created = thread::create({
        let (stream, config, own) =
            (stream.clone(), config.clone(), own.clone());
        Box::new(move || {
            // Dropped before the stream, whose number is free only then.
            let _place = place;
            converse(&stream, &config, &mut own.here());
        })
    });
    match created {
        Ok(()) => *about = own,
        Err(errno) => {
            refuse(
                stream,
                format_args!("no thread: {errno} (ulimit -u, ulimit -v)"),
            );
            about.counters.refused += 1;
        }
    }
}

/// Leaves newcomers in the backlog until a client leaves, or for a moment,
/// rather than spin.
fn pause(errno: Errno) {
    notice(Cause::Accept, format_args!("cannot accept for a moment: {errno}"));
    REGISTRY.wait_for_room(SHORTAGE_PAUSE);
}
