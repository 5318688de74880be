//! **Blocking I/O**: the program asks for data and is put to sleep until the
//! data is there and copied; meanwhile it can do nothing else.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    recv(stream)                |
//!           |------------------------------->|  nothing has arrived
//!        asleep                              |  phase 1: waiting for data
//!           :                                |  a segment arrives
//!           :                                |  phase 2: copying it
//!           |<-------------------------------|  to the application's buffer
//!           |    the number of bytes         |
//!        awake: answers, sends, and asks again
//! ```
//!
//! The waiting call is `receive` in `conversation.rs`.
//!
//! One conversation at a time, from accept to close: who comes second waits
//! in the backlog, connected but not served, until the first has left. All
//! the waiting is done inside the calls that transfer: nothing else in this
//! program asks whether a socket is ready, and so it can wait for one socket
//! only. A deadline is the socket's own (SO_RCVTIMEO, SO_SNDTIMEO).
//!
//! To stop, a signal handler shuts down the receiving side of the socket that
//! a call waits on, or would wait on next. The call returns, whether it had
//! begun or not: no moment between a check and a wait is left in which a
//! signal can be missed.
//!
//! # System calls
//!
//! accept4(2), recv(2), send(2), shutdown(2), setsockopt(2); for datagrams
//! recvfrom(2) and sendto(2); sigaction(2), setitimer(2) and ioctl(2) (tcp(7))
//! for the stop.
//!
//! # Limits
//!
//! One client. The second one waits as long as the first one likes, up to the
//! idle timeout. The accept queue holds `--backlog` clients, at most
//! net.core.somaxconn: 4,096 by default since Linux 5.4, 128 before
//! (listen(2)). When it is full, the kernel drops connection requests.
//!
//! # When to use it
//!
//! When there is one peer, or one at a time: a tool that talks to a server, a
//! pipe between two programs. It is the simplest code there is; the next
//! models show what it takes to serve a second client.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, where one thread waits for many sockets at once;
//! `process-per-connection` and `thread-per-connection`, which keep this
//! conversation, line for line, and give each client one of its own.

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

/// Serves a new client. Whoever comes next waits until it has left.
fn serve_client(stream: &OwnedFd, config: &Config, about: &mut About) {
    about.counters.accepted += 1;
    about.counters.clients = 1;
    drain::set_target(stream.as_fd());
    converse(stream, config, about);
    about.counters.clients = 0;
}

/// Leaves new clients in the backlog for a moment rather than spin.
fn pause(errno: Errno) {
    log(
        Cause::Accept,
        format_args!("accept4: {errno}; trying again in 100 ms"),
    );
    std::thread::sleep(ACCEPT_BACKOFF);
}
