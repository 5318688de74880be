//! The datagram service, blocking, on a thread of its own: recvfrom(2) waits
//! for a datagram and copies it, sendto(2) sends the reply.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};

use common::limits::{
    ACCEPT_BACKOFF, DATAGRAMS_PER_ROUND, MAX_DATAGRAM, MAX_DATAGRAM_REPLY,
};
use common::{About, Cause, answer_datagram, log};

use crate::drain;

/// Starts the thread, which answers datagrams until shutdown is requested. If
/// it panics, the process ends, because the service would otherwise be gone
/// unnoticed.
pub fn start(socket: OwnedFd, about: About) -> Result<JoinHandle<()>> {
    let work = move || {
        let serve = || serve(&socket, &mut about.clone().here());
        if catch_unwind(AssertUnwindSafe(serve)).is_err() {
            std::process::exit(1);
        }
    };
    std::thread::Builder::new()
        .name("datagrams".into())
        .spawn(work)
        .context("cannot create the datagram thread")
}

/// Waits until the thread has answered the queued datagrams.
pub fn join(thread: JoinHandle<()>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("the datagram thread panicked"))
}

/// Answers datagrams until shutdown is requested, and then those that were
/// queued by then.
pub fn serve(socket: &OwnedFd, about: &mut About) {
    let mut datagrams = Datagrams::new(socket);
    while !drain::requested() {
        datagrams.answer(about);
    }
    for _ in 0..DATAGRAMS_PER_ROUND {
        if !datagrams.answer(about) {
            break;
        }
    }
}

/// A datagram socket and the buffers for one datagram and its reply.
struct Datagrams<'a> {
    socket: &'a OwnedFd,
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl<'a> Datagrams<'a> {
    fn new(socket: &'a OwnedFd) -> Self {
        let input = vec![0; MAX_DATAGRAM].into_boxed_slice();
        let output = vec![0; MAX_DATAGRAM_REPLY].into_boxed_slice();
        Self { socket, input, output }
    }

    /// Receives one datagram and answers it. Returns false if there was none,
    /// because the socket is shut down or a signal came first.
    fn answer(&mut self, about: &mut About) -> bool {
        let socket = self.socket.as_raw_fd();
        let (received, client) =
            match recvfrom::<SockaddrStorage>(socket, &mut self.input) {
                Ok((received, Some(client))) => (received, client),
                Ok((_, None)) | Err(Errno::EINTR) => return false,
                Err(errno) => {
                    log(Cause::Datagram, format_args!("recvfrom: {errno}"));
                    // Does not spin if the call keeps failing.
                    std::thread::sleep(ACCEPT_BACKOFF);
                    return false;
                }
            };
        about.counters.datagrams += 1;
        let length =
            answer_datagram(&self.input[..received], about, &mut self.output);
        if length == 0 {
            return true;
        }
        // Never waits to send a reply: a client must be able to lose one
        // anyway.
        let flags = MsgFlags::MSG_DONTWAIT;
        if sendto(socket, &self.output[..length], &client, flags).is_err() {
            about.counters.datagrams_dropped += 1;
        }
        true
    }
}
