//! The datagram service, blocking, in a child of its own: recvfrom(2) waits
//! for a datagram and copies it, sendto(2) sends the reply.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};

use common::limits::{
    DATAGRAM, DATAGRAM_REPLY, DATAGRAMS_PER_ROUND, SHORTAGE_PAUSE,
};
use common::{About, Cause, answer_datagram, notice};

use crate::stop;

/// Answers datagrams until a stop is asked for, and then those that were
/// queued by then.
pub fn serve(socket: &OwnedFd, about: &mut About) {
    let mut datagrams = Datagrams::new(socket);
    stop::wakes(socket.as_fd());
    while !stop::requested() {
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
        let input = vec![0; DATAGRAM].into_boxed_slice();
        let output = vec![0; DATAGRAM_REPLY].into_boxed_slice();
        Self { socket, input, output }
    }

    /// Receives one datagram and answers it. False: there was none, because
    /// the socket is shut down, or a signal came first.
    fn answer(&mut self, about: &mut About) -> bool {
        let socket = self.socket.as_raw_fd();
        let (received, client) =
            match recvfrom::<SockaddrStorage>(socket, &mut self.input) {
                Ok((received, Some(client))) => (received, client),
                Ok((_, None)) | Err(Errno::EINTR) => return false,
                Err(errno) => {
                    notice(Cause::Datagram, format_args!("recvfrom: {errno}"));
                    // Rather than spin where it fails for a while.
                    std::thread::sleep(SHORTAGE_PAUSE);
                    return false;
                }
            };
        about.counters.datagrams += 1;
        let length =
            answer_datagram(&self.input[..received], about, &mut self.output);
        if length == 0 {
            return true;
        }
        // A reply is worth no wait: the client asks again if it is lost.
        let flags = MsgFlags::MSG_DONTWAIT;
        if sendto(socket, &self.output[..length], &client, flags).is_err() {
            about.counters.datagrams_dropped += 1;
        }
        true
    }
}
