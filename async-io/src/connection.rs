//! One client of a completion model: what to do when the kernel has received
//! or sent, however it tells. Nothing here copies data to or from a socket.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};

use common::limits::{INPUT_CHUNK, LINGER};
use common::{About, BackPressure, Session, Timer};

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
    pub timer: Timer,
    session: Session,
    stage: Stage,
    end_of_file: bool,
    /// After a stop: bytes that had arrived by then and are still to answer.
    remaining_input: Option<usize>,
    /// Input that came although the client leaves too much unread: an
    /// operation in flight cannot be held back.
    waiting: Vec<u8>,
    /// Replies that wait until the operation before them is complete.
    output: Vec<u8>,
    /// Bytes of replies that an operation holds and the kernel has not taken.
    sending: usize,
    pressure: BackPressure,
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
pub struct BufferPool {
    buffers: Vec<Vec<u8>>,
}

impl BufferPool {
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
    pub fn new(stream: OwnedFd, session: Session, timer: Timer) -> Self {
        Self {
            stream,
            timer,
            session,
            stage: Stage::Conversing,
            end_of_file: false,
            remaining_input: None,
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
        pool: &mut BufferPool,
        about: &mut About,
        now: Instant,
    ) -> nix::Result<()> {
        if self.stage != Stage::Conversing {
            return Ok(());
        }
        if self.pressure.admits_input() && self.waiting.is_empty() {
            self.answer(input, pool, about, now);
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
    pub fn flush_and_advance(
        &mut self,
        pool: &mut BufferPool,
        about: &mut About,
        now: Instant,
    ) -> nix::Result<Progress> {
        self.answer_waiting(pool, about, now);
        if self.end_of_file && self.waiting.is_empty() {
            self.stage = Stage::Ending;
        }
        if self.stage == Stage::Ending && !self.has_output() {
            if self.end_of_file || self.is_acknowledged() {
                return Ok(Progress::Ended);
            }
            shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
            self.stage = Stage::Discarding;
            self.timer.end_within(LINGER, now);
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
    pub fn begin_drain(&mut self) -> nix::Result<()> {
        let left = unread(&self.stream)? + self.waiting.len();
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

    fn pending(&self) -> usize {
        self.sending + self.output.len()
    }

    /// Answers what had to wait, as far as the client reads its replies.
    fn answer_waiting(
        &mut self,
        pool: &mut BufferPool,
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
            self.answer(chunk, pool, about, now);
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
        pool: &mut BufferPool,
        about: &mut About,
        now: Instant,
    ) {
        if self.output.is_empty() {
            self.output = pool.take();
        }
        let completed = self.session.receive(input, about, &mut self.output);
        if completed > 0 {
            about.counters.requests += completed as u64;
            self.timer.restart(now);
        }
        self.remaining_input =
            self.remaining_input.map(|left| left.saturating_sub(input.len()));
        if !self.session.wants_input() || self.remaining_input == Some(0) {
            self.stage = Stage::Ending;
        }
        self.pressure.update(self.pending());
        if self.output.is_empty() {
            pool.give_back(mem::take(&mut self.output));
        }
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
