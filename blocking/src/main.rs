//! **Blocking I/O**: the call that receives puts the program to sleep until
//! data has arrived and is copied. Meanwhile the program can do nothing else.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone.
//!
//! ```text
//!      application                         kernel
//!           |    recv(stream)                |
//!           |------------------------------->|  nothing has arrived
//!        asleep                              |  phase 1: waiting for data
//!           :                                |  a segment arrives
//!        wakes up in the call                |  phase 2: copying it
//!           |<-------------------------------|  to the application's buffer
//!           |    the number of bytes         |
//!        answers, sends, receives again
//! ```
//!
//! An input operation has two phases: waiting until data has arrived, and
//! copying it from the kernel to the program's buffer. Here one call does both:
//! recv(2), in `receive` of `conversation.rs`. The program never asks whether a
//! socket is ready, so it can wait for one socket only, and serves one client
//! at a time, from accept to close.
//!
//! New clients wait in two queues of the listener. In the SYN queue are those
//! whose TCP handshake is not complete. In the accept queue are those whose
//! handshake is; accept4(2) removes the first. A client there is connected and
//! may send, but is not served until those before it have disconnected.
//!
//! Timeouts are socket options, SO_RCVTIMEO and SO_SNDTIMEO (socket(7)): a call
//! that waits longer fails with EAGAIN.
//!
//! For a graceful shutdown, the signal handler shuts down the receiving side of
//! the socket on which a call waits or will wait next. accept4 and recv return
//! then, whether or not they had begun, so a signal that arrives between a
//! check of a flag and the call is not missed. A send that waits is
//! interrupted, and waits again; if it still waits at the end of the drain,
//! SIGALRM ends the program (setitimer(2)).
//!
//! # System calls
//!
//! accept4(2), recv(2), send(2), shutdown(2), setsockopt(2); for datagrams
//! recvfrom(2) and sendto(2); for graceful shutdown sigaction(2), setitimer(2)
//! and ioctl(2) (tcp(7)).
//!
//! # Limits
//!
//! One client at a time. The next one waits until the first has disconnected or
//! exceeded the idle timeout. The accept queue holds `--backlog` clients, at
//! most net.core.somaxconn: 4,096 by default since Linux 5.4, 128 before
//! (listen(2)). When it is full, the kernel drops connection requests.
//!
//! # When to use it
//!
//! For one peer, or one at a time: a tool that talks to a server, a pipe
//! between two programs. This is the simplest code; the next models show what a
//! second client requires.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, where one thread waits for many sockets at once;
//! `process-per-connection` and `thread-per-connection`, which keep
//! `conversation.rs` unchanged, and run it in one process or thread per client.
//!
//! # References
//!
//! - W. R. Stevens, UNIX Network Programming, vol. 1 (UNP), sections 6.2 (I/O
//!   models), 4.5 (listen and its queues) and 14.2 (socket timeouts).
//! - M. Kerrisk, The Linux Programming Interface (TLPI), sections 56.5 (stream
//!   sockets) and 60.1 (iterative and concurrent servers).
//! - recv(2), listen(2), socket(7), tcp(7).
//! - docs/CLAIMS.md: blocking-recv, blocking-and-many, connect-before-accept,
//!   accept-queue-full.

mod accept;
mod conversation;
mod datagrams;
mod drain;
mod queues;

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use common::limits::ACCEPT_BACKOFF;
use common::{
    About, Cause, Clients, Config, Model, SpareDescriptor, log, reject,
};

use accept::{accept, is_connection_error, is_resource_error};
use conversation::converse;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::One,
};

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    let mut about = About::new(MODEL.name, "");
    if let Some((socket, address)) = common::bind_datagrams(config)? {
        drain::install(socket.as_fd(), config.drain_timeout)?;
        common::announce(None, Some(address))?;
        datagrams::serve(&socket, &mut about);
        return Ok(());
    }
    let Some((listener, address)) = common::listen(config)? else {
        return Ok(());
    };
    let mut spare = SpareDescriptor::open()?;
    drain::install(listener.as_fd(), config.drain_timeout)?;
    common::announce(Some(address), None)?;

    loop {
        drain::set_target(listener.as_fd());
        let accepted = accept(&listener, SockFlag::SOCK_CLOEXEC);
        if drain::requested() {
            return Ok(());
        }
        match accepted {
            // The spare descriptor can't be opened again, so this connection
            // holds the last one.
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
            Ok(stream) => serve_client(&stream, config, &mut about),
            Err(Errno::EINTR) => {}
            Err(errno) if is_connection_error(errno) => {}
            // The next accept4 succeeds, because the spare descriptor is free.
            Err(Errno::EMFILE | Errno::ENFILE) if spare.release() => {}
            Err(errno) if is_resource_error(errno) => pause(errno),
            Err(errno) => return Err(errno).context("accept4"),
        }
    }
}

/// Serves a new client. The next one waits in the accept queue meanwhile.
fn serve_client(stream: &OwnedFd, config: &Config, about: &mut About) {
    about.counters.accepted += 1;
    about.counters.clients = 1;
    drain::set_target(stream.as_fd());
    converse(stream, config, about);
    about.counters.clients = 0;
}

/// Pauses accepting until the back-off ends, because accept4 would only fail
/// again.
fn pause(errno: Errno) {
    log(
        Cause::Accept,
        format_args!("accept4: {errno}; trying again in 100 ms"),
    );
    std::thread::sleep(ACCEPT_BACKOFF);
}
