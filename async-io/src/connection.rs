//! One client of a completion model: what happens when a receive or a send is
//! complete, in both variants. Nothing here copies data to or from a socket.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};

use common::limits::INPUT_CHUNK;
use common::{About, BackPressure, Session, Timeout};

use crate::queues::{unacknowledged, unread};

/// The number of reply buffers that the pool keeps, and the most bytes of
/// capacity that each may have: 2 MiB together. The reply to a chunk of input
/// fits, so that not every reply allocates memory.
const SPARE_BUFFERS: usize = 64;
const SPARE_CAPACITY: usize = 32 * 1024;

/// One client: its socket, its half of the protocol, and the input and output
/// that no operation holds. An idle client holds no buffer.
pub struct Connection {
    pub stream: OwnedFd,
    /// The timeout that a completion has started. The engine takes it from
    /// here.
    pub timeout: Option<Timeout>,
    /// True if the idle timeout has expired and no request has been completed
    /// since.
    is_late: bool,
    session: Session,
    stage: Stage,
    end_of_file: bool,
    /// During the drain: how many of the bytes that had arrived when it began
    /// are still to be answered.
    remaining_input: Option<u32>,
    /// Input that arrived while reading was paused, because an operation in
    /// flight cannot be held back.
    waiting: Option<Box<Buffer>>,
    /// Replies that wait until the send in flight is complete.
    output: Option<Box<Buffer>>,
    /// Bytes of the send in flight that the kernel has not accepted.
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

/// How a conversation goes on after a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on. The caller starts a send if there is output, and a receive
    /// if input is wanted.
    GoesOn,
    /// It is over.
    Ended,
}

/// Input or replies, and how many bytes of them are answered or sent.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    done: usize,
}

impl Buffer {
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    pub fn advance(&mut self, bytes: usize) {
        self.done += bytes;
    }
}

/// A pool of reply buffers. A connection takes one for its replies, and gives
/// it back when their send is complete.
#[expect(clippy::vec_box, reason = "the boxes move to connections")]
pub struct BufferPool {
    buffers: Vec<Box<Buffer>>,
}

impl BufferPool {
    pub fn new() -> Self {
        Self { buffers: Vec::with_capacity(SPARE_BUFFERS) }
    }

    fn take(&mut self) -> Box<Buffer> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back. It is freed if it is large or the pool is full.
    pub fn give_back(&mut self, mut buffer: Box<Buffer>) {
        let useful = (1..=SPARE_CAPACITY).contains(&buffer.bytes.capacity());
        if useful && self.buffers.len() < SPARE_BUFFERS {
            buffer.bytes.clear();
            buffer.done = 0;
            self.buffers.push(buffer);
        }
    }
}

impl Connection {
    pub fn new(stream: OwnedFd, session: Session) -> Self {
        Self {
            stream,
            timeout: None,
            is_late: false,
            session,
            stage: Stage::Conversing,
            end_of_file: false,
            remaining_input: None,
            waiting: None,
            output: None,
            sending: 0,
            pressure: BackPressure::default(),
        }
    }

    /// True if a receive should be in flight: not while back-pressure pauses
    /// reading, and not after end of file. A conversation that ends still
    /// receives, but discards the input.
    pub fn wants_input(&self) -> bool {
        !self.end_of_file && self.pressure.admits_input()
    }

    /// Answers input, or keeps it while reading is paused. Fails if there is no
    /// memory for that. The caller then calls `flush_and_advance`.
    pub fn on_received(
        &mut self,
        input: &[u8],
        pool: &mut BufferPool,
        about: &mut About,
    ) -> nix::Result<()> {
        if self.stage != Stage::Conversing {
            return Ok(());
        }
        if self.pressure.admits_input() && self.waiting.is_none() {
            self.answer(input, pool, about);
            return Ok(());
        }
        let waiting = &mut self.waiting.get_or_insert_default().bytes;
        let room = waiting.try_reserve(input.len());
        room.map_err(|_| Errno::ENOMEM)?;
        waiting.extend_from_slice(input);
        Ok(())
    }

    /// Records end of file. The caller then calls `flush_and_advance`.
    pub fn on_end_of_file(&mut self) {
        self.end_of_file = true;
    }

    /// Records that the kernel has accepted this many bytes of what
    /// `take_output` returned. After a short write the operation keeps the
    /// rest. The caller then calls `flush_and_advance`.
    pub fn on_sent(&mut self, accepted: usize) {
        self.sending = self.sending.saturating_sub(accepted);
        self.pressure.update(self.pending());
    }

    /// Advances the conversation as far as possible without a completion.
    pub fn flush_and_advance(
        &mut self,
        pool: &mut BufferPool,
        about: &mut About,
    ) -> nix::Result<Outcome> {
        self.answer_waiting(pool, about);
        if self.end_of_file && self.waiting.is_none() {
            self.stage = Stage::Ending;
        }
        if self.stage == Stage::Ending && !self.has_output() {
            if self.end_of_file || self.is_acknowledged() {
                return Ok(Outcome::Ended);
            }
            shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
            self.stage = Stage::Discarding;
            self.timeout = Some(Timeout::Linger);
        }
        Ok(Outcome::GoesOn)
    }

    /// Returns the replies to send next; `None` while a send is in flight. They
    /// belong to the operation that sends them until it is complete.
    pub fn take_output(&mut self) -> Option<Box<Buffer>> {
        if self.sending > 0 {
            return None;
        }
        let output = self.output.take()?;
        self.sending = output.left().len();
        Some(output)
    }

    /// True while the kernel has not accepted all replies.
    pub fn has_output(&self) -> bool {
        self.pending() > 0
    }

    /// True if the idle timeout has expired for the first time since the last
    /// request. A request may still be on its way then.
    pub fn begins_grace(&mut self) -> bool {
        let is_late = mem::replace(&mut self.is_late, true);
        self.stage == Stage::Conversing && !is_late
    }

    /// Begins the drain: input that has arrived by now is answered, and then
    /// the conversation ends. Later input is ignored. Call `on_received` with
    /// all completed receives first, because this does not count their bytes.
    pub fn begin_drain(&mut self) -> nix::Result<()> {
        let waiting = self.waiting.as_ref().map_or(0, |it| it.left().len());
        let left = unread(&self.stream)? + waiting;
        // The kernel counts in an int, and no more waits than it can hold.
        self.remaining_input = Some(left as u32);
        if left == 0 && self.stage == Stage::Conversing {
            self.stage = Stage::Ending;
        }
        Ok(())
    }

    /// True once `begin_drain` has been called.
    pub fn is_draining(&self) -> bool {
        self.remaining_input.is_some()
    }

    /// True during the drain once the client's kernel has acknowledged all
    /// replies. The connection is closed then, without waiting for end of file.
    pub fn is_acknowledged(&self) -> bool {
        self.is_draining()
            && self.stage != Stage::Conversing
            && !self.has_output()
            && unacknowledged(&self.stream) == Ok(0)
    }

    fn pending(&self) -> usize {
        let waiting = self.output.as_ref().map_or(0, |it| it.left().len());
        self.sending + waiting
    }

    /// Answers input that was kept, up to the high-water mark.
    fn answer_waiting(&mut self, pool: &mut BufferPool, about: &mut About) {
        if !self.pressure.admits_input() {
            return;
        }
        let Some(mut waiting) = self.waiting.take() else { return };
        while let Some(chunk) = waiting.left().chunks(INPUT_CHUNK).next() {
            if self.stage != Stage::Conversing {
                return;
            }
            if !self.pressure.admits_input() {
                self.waiting = Some(waiting);
                return;
            }
            self.answer(chunk, pool, about);
            waiting.done += chunk.len();
        }
    }

    fn answer(
        &mut self,
        input: &[u8],
        pool: &mut BufferPool,
        about: &mut About,
    ) {
        let mut output = self.output.take().unwrap_or_else(|| pool.take());
        let completed = self.session.answer(input, about, &mut output.bytes);
        match output.bytes.is_empty() {
            true => pool.give_back(output),
            false => self.output = Some(output),
        }
        if completed > 0 {
            about.counters.requests += completed as u64;
            self.timeout = Some(Timeout::Idle);
            self.is_late = false;
        }
        let answered = input.len() as u32;
        self.remaining_input =
            self.remaining_input.map(|left| left.saturating_sub(answered));
        if !self.session.wants_input() || self.remaining_input == Some(0) {
            self.stage = Stage::Ending;
        }
        self.pressure.update(self.pending());
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
