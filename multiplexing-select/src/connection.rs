//! One client of a readiness model: what happens when its stream is readable or
//! writable. This file is the same in all of these models.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use common::limits::{INPUT_CHUNK, OUTPUT_KEPT};
use common::{About, BackPressure, Session, Timeout};

use crate::queues::{unacknowledged, unread};

/// One client: its socket, its half of the protocol, and its pending output. An
/// idle client holds no buffer.
pub struct Connection {
    pub stream: OwnedFd,
    /// The timeout that an event has started. The loop takes it from here.
    pub timeout: Option<Timeout>,
    session: Session,
    stage: Stage,
    end_of_file: bool,
    /// During the drain: how many of the bytes that had arrived when it began
    /// are still to be received.
    remaining_input: Option<u32>,
    /// `None` if no replies are pending.
    output: Option<Box<Output>>,
    pressure: BackPressure,
}

/// Replies, and how many bytes of them the kernel has accepted.
#[derive(Default)]
struct Output {
    replies: Vec<u8>,
    sent: usize,
}

/// The stages of a conversation, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Requests are received and answered.
    Conversing,
    /// No more requests are received; the last replies are still to be sent.
    Ending,
    /// Everything is sent, and so is the FIN; input is discarded until the
    /// client's end of file. Closing with input unread would reset the
    /// connection, and the last replies might be lost.
    Discarding,
}

/// How much is read for one readiness event.
#[derive(Clone, Copy)]
pub struct ReadPolicy {
    /// Reading stops after the recv that reaches this many bytes, so that other
    /// clients get their turn.
    pub budget: usize,
    /// A recv that returns fewer bytes has drained the socket. With 0, only
    /// EAGAIN means that it is drained.
    pub drained_below: usize,
}

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The socket is drained, or is not to be read now.
    Drained,
    /// The socket may have more to read, which an edge-triggered wait does not
    /// report again.
    More,
    /// The conversation has ended.
    Ended,
}

/// Buffers that all connections of a loop share, one at a time.
pub struct Scratch {
    input: Box<[u8; INPUT_CHUNK]>,
    /// `None` after a connection has kept it.
    output: Option<Box<Output>>,
}

impl Scratch {
    pub fn new() -> Self {
        Self { input: Box::new([0; INPUT_CHUNK]), output: None }
    }
}

impl Connection {
    pub fn new(stream: OwnedFd, session: Session) -> Self {
        Self {
            stream,
            timeout: None,
            session,
            stage: Stage::Conversing,
            end_of_file: false,
            remaining_input: None,
            output: None,
            pressure: BackPressure::default(),
        }
    }

    /// False while too much output is pending, and at the end.
    pub fn wants_input(&self) -> bool {
        match self.stage {
            Stage::Conversing => self.pressure.admits_input(),
            Stage::Ending => false,
            Stage::Discarding => true,
        }
    }

    /// True while output is pending after a short write.
    pub fn has_output(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.pending() > 0)
    }

    /// Receives what has arrived, and answers it.
    pub fn on_readable(
        &mut self,
        policy: ReadPolicy,
        scratch: &mut Scratch,
        about: &mut About,
    ) -> nix::Result<Outcome> {
        self.borrow(scratch);
        let drained = self.receive(policy, &mut *scratch.input, about)?;
        let outcome = self.flush_and_advance()?;
        self.give_back(scratch);
        match outcome {
            Outcome::More if drained => Ok(Outcome::Drained),
            outcome => Ok(outcome),
        }
    }

    /// Returns true if the socket is drained, or at end of file.
    fn receive(
        &mut self,
        policy: ReadPolicy,
        input: &mut [u8],
        about: &mut About,
    ) -> nix::Result<bool> {
        let stream = self.stream.as_raw_fd();
        let mut taken = 0;
        while taken < policy.budget && self.wants_input() {
            match recv(stream, input, MsgFlags::empty()) {
                Ok(0) => {
                    self.end_of_file = true;
                    self.stage = Stage::Ending;
                    return Ok(true);
                }
                Ok(received) => {
                    taken += received;
                    self.answer(&input[..received], about);
                    if received < policy.drained_below {
                        return Ok(true);
                    }
                }
                Err(Errno::EAGAIN) => {
                    about.counters.empty_calls += 1;
                    return Ok(true);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(false)
    }

    fn answer(&mut self, input: &[u8], about: &mut About) {
        if self.stage != Stage::Conversing {
            return;
        }
        let output = self.output.get_or_insert_default();
        let completed = self.session.answer(input, about, &mut output.replies);
        self.pressure.update(output.pending());
        if completed > 0 {
            about.counters.requests += completed as u64;
            self.timeout = Some(Timeout::Idle);
        }
        let received = input.len() as u32;
        self.remaining_input =
            self.remaining_input.map(|left| left.saturating_sub(received));
        if !self.session.wants_input() || self.remaining_input == Some(0) {
            self.stage = Stage::Ending;
        }
    }

    /// Sends pending output. Returns `More` if reading was paused until now: an
    /// edge-triggered wait does not report what has arrived meanwhile.
    pub fn on_writable(&mut self) -> nix::Result<Outcome> {
        let was_reading = self.wants_input();
        let outcome = self.flush_and_advance()?;
        if !self.has_output() {
            self.output = None;
        }
        match outcome {
            Outcome::More if was_reading => Ok(Outcome::Drained),
            outcome => Ok(outcome),
        }
    }

    /// Sends what can be sent, and moves the conversation to its next stage.
    fn flush_and_advance(&mut self) -> nix::Result<Outcome> {
        self.flush()?;
        if self.stage == Stage::Ending && !self.has_output() {
            if self.end_of_file || self.is_acknowledged() {
                return Ok(Outcome::Ended);
            }
            shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
            self.stage = Stage::Discarding;
            self.timeout = Some(Timeout::Linger);
        }
        if self.wants_input() {
            Ok(Outcome::More)
        } else {
            Ok(Outcome::Drained)
        }
    }

    fn flush(&mut self) -> nix::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let stream = self.stream.as_raw_fd();
        while output.pending() > 0 {
            let unsent = &output.replies[output.sent..];
            // Without MSG_NOSIGNAL, a send after a reset may also raise
            // SIGPIPE, which ends a process that does not ignore it.
            match send(stream, unsent, MsgFlags::MSG_NOSIGNAL) {
                Ok(accepted) => output.sent += accepted,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.pressure.update(output.pending());
        Ok(())
    }

    /// A connection without pending output uses the loop's buffer, and keeps it
    /// only after a short write.
    fn borrow(&mut self, scratch: &mut Scratch) {
        if self.output.is_none() {
            self.output = scratch.output.take();
        }
        if let Some(output) = &mut self.output {
            output.forget_sent();
        }
    }

    fn give_back(&mut self, scratch: &mut Scratch) {
        if self.has_output() {
            return;
        }
        scratch.output = self.output.take();
        if let Some(output) = &mut scratch.output {
            output.forget_sent();
            output.replies.shrink_to(OUTPUT_KEPT);
        }
    }

    /// Starts the drain: input that has arrived by now is answered, then the
    /// conversation ends. Later input is ignored.
    pub fn begin_drain(&mut self) -> nix::Result<()> {
        // The kernel counts in an int.
        let left = unread(&self.stream)? as u32;
        self.remaining_input = Some(left);
        if left == 0 && self.stage == Stage::Conversing {
            self.stage = Stage::Ending;
        }
        Ok(())
    }

    /// True during the drain once the client's kernel has acknowledged all
    /// replies. The connection is closed then, without waiting for end of file.
    pub fn is_acknowledged(&self) -> bool {
        self.remaining_input.is_some()
            && self.stage != Stage::Conversing
            && !self.has_output()
            && unacknowledged(&self.stream) == Ok(0)
    }
}

impl Output {
    /// Returns how many bytes are still to be sent.
    fn pending(&self) -> usize {
        self.replies.len() - self.sent
    }

    fn forget_sent(&mut self) {
        self.replies.drain(..mem::take(&mut self.sent));
    }
}

/// True for errors that the peer or the network causes: it reset the
/// connection, or can't be reached. They are not worth logging.
pub fn is_peer_error(errno: Errno) -> bool {
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
