//! One client of a completion model: what to do when the kernel has received
//! or sent, however it tells. Nothing here copies data to or from a socket.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};

use common::limits::{INPUT_CHUNK, LINGER};
use common::{About, BackPressure, Deadline, Session};

use crate::queues::{unacknowledged, unread};

/// Buffers that are kept for the next replies, and bytes of capacity that each
/// may have: 2 MiB together. A reply that a chunk of input completes fits, so
/// that memory need not be had from the kernel for each.
const SPARE_BUFFERS: usize = 64;
const SPARE_CAPACITY: usize = 32 * 1024;

/// One client: its socket, its half of the protocol, and what no operation
/// has taken yet. Idle, it holds no buffer.
pub struct Connection {
    pub stream: OwnedFd,
    pub deadline: Deadline,
    session: Session,
    stage: Stage,
    end_of_file: bool,
    /// After a stop: bytes that had arrived by then and are still to answer.
    left: Option<usize>,
    /// Input that came although the client leaves too much unread: an
    /// operation in flight cannot be held back.
    waiting: Vec<u8>,
    /// Replies that wait until the operation before them is complete.
    output: Vec<u8>,
    /// Bytes of replies that an operation holds and the kernel has not taken.
    sending: usize,
    pressure: BackPressure,
}

/// A conversation passes through these in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Requests are taken and answered.
    Conversing,
    /// No more requests; the last replies are on their way out.
    Ending,
    /// All is sent, and we said so; input is dropped up to its end. Closing
    /// with input unread would reset the connection, and the last replies
    /// might never arrive.
    Discarding,
}

/// Where a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on: have the kernel send what there is to send, and receive if
    /// input is wanted.
    GoesOn,
    /// It is over.
    Ended,
}

/// Reply buffers between two operations: whoever has something to send takes
/// one, and its operation gives it back when it is complete.
pub struct Spares {
    buffers: Vec<Vec<u8>>,
}

impl Spares {
    pub fn new() -> Self {
        Self { buffers: Vec::with_capacity(SPARE_BUFFERS) }
    }

    fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back. One that is large, or too many, is freed.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        let useful = (1..=SPARE_CAPACITY).contains(&buffer.capacity());
        if useful && self.buffers.len() < SPARE_BUFFERS {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

impl Connection {
    pub fn new(stream: OwnedFd, session: Session, deadline: Deadline) -> Self {
        Self {
            stream,
            deadline,
            session,
            stage: Stage::Conversing,
            end_of_file: false,
            left: None,
            waiting: Vec::new(),
            output: Vec::new(),
            sending: 0,
            pressure: BackPressure::default(),
        }
    }

    /// Whether to have the kernel receive: not while the client leaves too
    /// much unread, and not after its end of file. From a conversation that
    /// ends, input is taken to be dropped.
    pub fn wants_input(&self) -> bool {
        !self.end_of_file && self.pressure.admits_input()
    }

    /// Takes what the kernel has received, and answers it; `proceed` follows.
    /// Fails where there is no memory to keep it in.
    pub fn on_received(
        &mut self,
        input: &[u8],
        spares: &mut Spares,
        about: &mut About,
        now: Instant,
    ) -> nix::Result<()> {
        if self.stage != Stage::Conversing {
            return Ok(());
        }
        if self.pressure.admits_input() && self.waiting.is_empty() {
            self.answer(input, spares, about, now);
            return Ok(());
        }
        let room = self.waiting.try_reserve(input.len());
        room.map_err(|_| Errno::ENOMEM)?;
        self.waiting.extend_from_slice(input);
        Ok(())
    }

    /// The client has ended its side; `proceed` follows.
    pub fn on_end_of_file(&mut self) {
        self.end_of_file = true;
    }

    /// The kernel has taken so many bytes of what `take_output` gave; `proceed`
    /// follows. The operation keeps the rest, and sends it too.
    pub fn on_sent(&mut self, accepted: usize) {
        self.sending = self.sending.saturating_sub(accepted);
        self.pressure.update(self.pending());
    }

    /// Takes the conversation as far as it goes without the kernel.
    pub fn proceed(
        &mut self,
        spares: &mut Spares,
        about: &mut About,
        now: Instant,
    ) -> nix::Result<Progress> {
        self.answer_waiting(spares, about, now);
        if self.end_of_file && self.waiting.is_empty() {
            self.stage = Stage::Ending;
        }
        if self.stage == Stage::Ending && !self.has_output() {
            if self.end_of_file || self.is_delivered() {
                return Ok(Progress::Ended);
            }
            shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
            self.stage = Stage::Discarding;
            self.deadline.end_within(LINGER, now);
        }
        Ok(Progress::GoesOn)
    }

    /// The replies to send next; none while others are on their way. They
    /// belong to the operation that sends them, until it is complete.
    pub fn take_output(&mut self) -> Option<Vec<u8>> {
        if self.sending > 0 || self.output.is_empty() {
            return None;
        }
        self.sending = self.output.len();
        Some(mem::take(&mut self.output))
    }

    /// True while the kernel has not taken all replies.
    pub fn has_output(&self) -> bool {
        self.pending() > 0
    }

    /// The server stops: what has arrived by now is answered, and then the
    /// conversation ends. A client that goes on sending is not listened to.
    /// Hand over first what was received: here, what is left is counted.
    pub fn stop(&mut self) -> nix::Result<()> {
        let left = unread(&self.stream)? + self.waiting.len();
        self.left = Some(left);
        if left == 0 && self.stage == Stage::Conversing {
            self.stage = Stage::Ending;
        }
        Ok(())
    }

    /// True after a stop once the client's kernel has acknowledged all replies:
    /// the connection is closed then, without waiting for end of file.
    pub fn is_delivered(&self) -> bool {
        self.left.is_some()
            && self.stage != Stage::Conversing
            && !self.has_output()
            && unacknowledged(&self.stream) == Ok(0)
    }

    fn pending(&self) -> usize {
        self.sending + self.output.len()
    }

    /// Answers what had to wait, as far as the client reads its replies.
    fn answer_waiting(
        &mut self,
        spares: &mut Spares,
        about: &mut About,
        now: Instant,
    ) {
        if self.waiting.is_empty() || !self.pressure.admits_input() {
            return;
        }
        let mut waiting = mem::take(&mut self.waiting);
        let mut answered = 0;
        for chunk in waiting.chunks(INPUT_CHUNK) {
            if self.stage != Stage::Conversing {
                return;
            }
            if !self.pressure.admits_input() {
                break;
            }
            self.answer(chunk, spares, about, now);
            answered += chunk.len();
        }
        if answered < waiting.len() {
            waiting.drain(..answered);
            self.waiting = waiting;
        }
    }

    fn answer(
        &mut self,
        input: &[u8],
        spares: &mut Spares,
        about: &mut About,
        now: Instant,
    ) {
        if self.output.is_empty() {
            self.output = spares.take();
        }
        let completed = self.session.receive(input, about, &mut self.output);
        if completed > 0 {
            about.counters.requests += completed as u64;
            self.deadline.restart(now);
        }
        self.left = self.left.map(|left| left.saturating_sub(input.len()));
        if !self.session.wants_input() || self.left == Some(0) {
            self.stage = Stage::Ending;
        }
        self.pressure.update(self.pending());
        if self.output.is_empty() {
            spares.give_back(mem::take(&mut self.output));
        }
    }
}

/// True where the client left, broke off, or was lost: its own affair, and
/// nothing to report.
pub fn is_the_clients(errno: Errno) -> bool {
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
