//! The datagram service of a readiness model: when the socket is readable,
//! recvfrom(2) copies a datagram, and sendto(2) sends the reply.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};

use common::limits::{DATAGRAMS_PER_ROUND, MAX_DATAGRAM, MAX_DATAGRAM_REPLY};
use common::{About, Cause, answer_datagram, log};

use crate::connection::Outcome;

/// A datagram socket and the buffers for one datagram and its reply.
pub struct Datagrams {
    socket: OwnedFd,
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl Datagrams {
    /// Takes a non-blocking socket.
    pub fn new(socket: OwnedFd) -> Self {
        let input = vec![0; MAX_DATAGRAM].into_boxed_slice();
        let output = vec![0; MAX_DATAGRAM_REPLY].into_boxed_slice();
        Self { socket, input, output }
    }

    /// Answers what has arrived, up to a limit per round, so that streams get
    /// their turn.
    pub fn on_readable(&mut self, about: &mut About) -> nix::Result<Outcome> {
        for _ in 0..DATAGRAMS_PER_ROUND {
            match self.answer(about) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    about.counters.empty_calls += 1;
                    return Ok(Outcome::Drained);
                }
                Err(errno) => {
                    log(Cause::Datagram, format_args!("recvfrom: {errno}"));
                    return Err(errno);
                }
            }
        }
        Ok(Outcome::More)
    }

    /// Receives one datagram and answers it.
    fn answer(&mut self, about: &mut About) -> nix::Result<()> {
        let socket = self.socket.as_raw_fd();
        let (received, client) =
            recvfrom::<SockaddrStorage>(socket, &mut self.input)?;
        let Some(client) = client else { return Ok(()) };
        about.counters.datagrams += 1;
        let length =
            answer_datagram(&self.input[..received], about, &mut self.output);
        if length == 0 {
            return Ok(());
        }
        // Never waits to send a reply: a client must be able to lose one
        // anyway.
        let flags = MsgFlags::MSG_DONTWAIT;
        if sendto(socket, &self.output[..length], &client, flags).is_err() {
            about.counters.datagrams_dropped += 1;
        }
        Ok(())
    }
}
