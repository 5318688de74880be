//! One conversation in blocking calls. The models `blocking`,
//! `process-per-connection`, `thread-per-connection` and `worker-pool` share
//! this file.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, Shutdown, getsockopt, recv, send, setsockopt, shutdown, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use common::limits::{
    ACK_POLL_INTERVAL, INPUT_CHUNK_PER_CLIENT, LINGER, OUTPUT_KEPT_PER_CLIENT,
};
use common::{About, Cause, Config, Session, Timer, log};

use crate::drain;
use crate::queues::{unacknowledged, unread};

/// Serves one client from its first byte to its last.
pub fn converse(stream: &OwnedFd, config: &Config, about: &mut About) {
    let conversation = Conversation {
        stream,
        session: config.session(about.counters.accepted),
        timer: Timer::new(config.idle_timeout, Instant::now()),
        timeout: TimeVal::zero(),
        remaining_input: None,
    };
    match conversation.converse(about) {
        Ok(()) => {}
        Err(errno) if is_peer_error(errno) => {}
        Err(errno) => log(
            Cause::Conversation,
            format_args!("a conversation failed: {errno}"),
        ),
    }
}

/// One client: its socket and its half of the protocol.
struct Conversation<'a> {
    stream: &'a OwnedFd,
    session: Session,
    timer: Timer,
    /// The timeout that SO_RCVTIMEO and SO_SNDTIMEO have now.
    timeout: TimeVal,
    /// During the drain: how many of the bytes that had arrived when it began
    /// are still to be received.
    remaining_input: Option<usize>,
}

impl Conversation<'_> {
    fn converse(mut self, about: &mut About) -> nix::Result<()> {
        let mut input = [0; INPUT_CHUNK_PER_CLIENT];
        let mut output = Vec::new();
        while self.session.wants_input() {
            self.note_drain()?;
            if self.remaining_input == Some(0) {
                return self.wait_until_acknowledged();
            }
            let received = self.receive(&mut input)?;
            if received == 0 && !drain::requested() {
                // End of file, and everything before it is answered.
                return Ok(());
            }
            self.remaining_input =
                self.remaining_input.map(|left| left.saturating_sub(received));
            let completed =
                self.session.answer(&input[..received], about, &mut output);
            if completed > 0 {
                about.counters.requests += completed as u64;
                self.timer.restart(Instant::now());
            } else if self.timer.has_expired(Instant::now()) {
                return Err(Errno::ETIMEDOUT);
            }
            self.send_all(&output)?;
            output.clear();
            output.shrink_to(OUTPUT_KEPT_PER_CLIENT);
        }
        self.end(&mut input)
    }

    /// Waits for data and copies it: both phases in one call. Once the timer
    /// has expired, it receives what has arrived, without waiting.
    fn receive(&mut self, input: &mut [u8]) -> nix::Result<usize> {
        loop {
            let flags = match self.set_socket_timeout() {
                Ok(()) => MsgFlags::empty(),
                Err(Errno::ETIMEDOUT) => MsgFlags::MSG_DONTWAIT,
                Err(errno) => return Err(errno),
            };
            match recv(self.stream.as_raw_fd(), input, flags) {
                Err(Errno::EAGAIN) if flags == MsgFlags::MSG_DONTWAIT => {
                    return Err(Errno::ETIMEDOUT);
                }
                // After a signal or the timeout, the remaining time is computed
                // again.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                received => return received,
            }
        }
    }

    /// Sends everything. The call waits while the send buffer is full, so a
    /// client that reads slowly is also served slowly.
    fn send_all(&mut self, output: &[u8]) -> nix::Result<()> {
        let mut sent = 0;
        while sent < output.len() {
            self.set_socket_timeout()?;
            let stream = self.stream.as_raw_fd();
            // Without MSG_NOSIGNAL, a send after a reset may also raise
            // SIGPIPE, which ends a process that does not ignore it.
            match send(stream, &output[sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(accepted) => sent += accepted,
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Ends the conversation so that the last replies arrive: sends a FIN, then
    /// waits for the client's.
    fn end(&mut self, input: &mut [u8]) -> nix::Result<()> {
        if !drain::clear_target(self.stream.as_fd()) {
            return self.wait_until_acknowledged();
        }
        shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
        self.timer.end_within(LINGER, Instant::now());
        let is_late = |timer: &Timer| timer.has_expired(Instant::now());
        while !is_late(&self.timer) && self.receive(input)? > 0 {}
        Ok(())
    }

    /// Once shutdown is requested, notes how much input has arrived by then.
    /// Later input is ignored.
    fn note_drain(&mut self) -> nix::Result<()> {
        if self.remaining_input.is_none() && drain::requested() {
            self.remaining_input = Some(unread(self.stream)?);
        }
        Ok(())
    }

    /// Ends a conversation whose receiving side the drain has shut down. Such a
    /// socket no longer shows the client's end of file. With a FIN sent too,
    /// the kernel would answer further input with a reset, which destroys
    /// replies in transit. So this function polls SIOCOUTQ until the replies
    /// are acknowledged; poll(2) has no event for that.
    fn wait_until_acknowledged(&mut self) -> nix::Result<()> {
        while unacknowledged(self.stream)? > 0 {
            // After a reset nothing is acknowledged any more.
            match getsockopt(self.stream, sockopt::SocketError)? {
                0 => {}
                error => return Err(Errno::from_raw(error)),
            }
            if self.timer.has_expired(Instant::now()) {
                return Err(Errno::ETIMEDOUT);
            }
            std::thread::sleep(ACK_POLL_INTERVAL);
        }
        Ok(())
    }

    /// Sets the socket's timeouts to the time that remains; a call that waits
    /// longer fails with EAGAIN. The time is rounded up, so that it stays the
    /// same for a busy client and costs no system call.
    fn set_socket_timeout(&mut self) -> nix::Result<()> {
        const STEP_MS: i64 = 10;
        let Some(left) = self.timer.remaining(Instant::now()) else {
            return Ok(());
        };
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let steps = left.as_millis() as i64 / STEP_MS + 1;
        let timeout = TimeVal::milliseconds(steps * STEP_MS);
        if timeout != self.timeout {
            setsockopt(self.stream, sockopt::ReceiveTimeout, &timeout)?;
            setsockopt(self.stream, sockopt::SendTimeout, &timeout)?;
            self.timeout = timeout;
        }
        Ok(())
    }
}

/// True for errors that the peer or the network causes, and for a timeout. They
/// are not worth logging.
fn is_peer_error(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNRESET
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ENOTCONN
            | Errno::EPIPE
            | Errno::ETIMEDOUT
    )
}
