//! One client of a readiness model: what to do when its stream is readable or
//! writable, however that was found out.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use common::limits::{INPUT_CHUNK, LINGER, OUTPUT_KEPT};
use common::{About, BackPressure, Deadline, Session};

use crate::queues::{unacknowledged, unread};

/// One client: its socket, its half of the protocol, and what the kernel has
/// not taken yet. Idle, it holds no buffer.
pub struct Connection {
    pub stream: OwnedFd,
    pub deadline: Deadline,
    session: Session,
    stage: Stage,
    end_of_file: bool,
    /// After a stop: bytes that had arrived by then and are still to take.
    left: Option<usize>,
    /// Replies; empty and without memory unless a send fell short.
    output: Vec<u8>,
    /// How much of `output` the kernel has taken.
    sent: usize,
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

/// How much of what has arrived a visit takes.
#[derive(Clone, Copy)]
pub struct Share {
    /// The visit ends after the call that makes it so many bytes, so that the
    /// others have their turn.
    pub budget: usize,
    /// A call that brings fewer bytes has emptied the socket, and nothing else
    /// waits there: 0 where only EAGAIN says that.
    pub full: usize,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The socket has nothing more for now, or is not to be read for now.
    Drained,
    /// The socket may have more; an edge will not tell.
    More,
    /// The conversation is over.
    Ended,
}

/// The buffers that all connections of a loop share, one at a time.
pub struct Scratch {
    input: Box<[u8; INPUT_CHUNK]>,
    output: Vec<u8>,
}

impl Scratch {
    pub fn new() -> Self {
        Self { input: Box::new([0; INPUT_CHUNK]), output: Vec::new() }
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
            output: Vec::new(),
            sent: 0,
            pressure: BackPressure::default(),
        }
    }

    /// False while the client leaves too much unread, and at the end.
    pub fn wants_input(&self) -> bool {
        match self.stage {
            Stage::Conversing => self.pressure.admits_input(),
            Stage::Ending => false,
            Stage::Discarding => true,
        }
    }

    /// True while a send has fallen short.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Takes what has arrived, and answers it.
    pub fn on_readable(
        &mut self,
        share: Share,
        scratch: &mut Scratch,
        about: &mut About,
        now: Instant,
    ) -> nix::Result<Progress> {
        self.borrow(scratch);
        let drained = self.receive(share, &mut *scratch.input, about, now)?;
        let progress = self.proceed(now)?;
        self.give_back(scratch);
        match progress {
            Progress::More if drained => Ok(Progress::Drained),
            progress => Ok(progress),
        }
    }

    /// Sends what was left. `More` where input was left alone until now: no
    /// edge will tell of what has arrived meanwhile.
    pub fn on_writable(&mut self, now: Instant) -> nix::Result<Progress> {
        let listened = self.wants_input();
        let progress = self.proceed(now)?;
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        match progress {
            Progress::More if listened => Ok(Progress::Drained),
            progress => Ok(progress),
        }
    }

    /// The server stops: what has arrived by now is answered, and then the
    /// conversation ends. A client that goes on sending is not listened to.
    pub fn stop(&mut self) -> nix::Result<()> {
        let left = unread(&self.stream)?;
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
            && self.output.is_empty()
            && unacknowledged(&self.stream) == Ok(0)
    }

    /// Without unsent replies of its own, a connection uses the loop's buffer,
    /// and keeps it only if the kernel does not take everything.
    fn borrow(&mut self, scratch: &mut Scratch) {
        if self.output.is_empty() {
            mem::swap(&mut self.output, &mut scratch.output);
        } else {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn give_back(&mut self, scratch: &mut Scratch) {
        if self.output.is_empty() {
            scratch.output = mem::take(&mut self.output);
            scratch.output.shrink_to(OUTPUT_KEPT);
        }
    }

    /// True when the socket has no more, or no more will come.
    fn receive(
        &mut self,
        share: Share,
        input: &mut [u8],
        about: &mut About,
        now: Instant,
    ) -> nix::Result<bool> {
        let stream = self.stream.as_raw_fd();
        let mut taken = 0;
        while taken < share.budget && self.wants_input() {
            match recv(stream, input, MsgFlags::empty()) {
                Ok(0) => {
                    self.end_of_file = true;
                    self.stage = Stage::Ending;
                    return Ok(true);
                }
                Ok(received) => {
                    taken += received;
                    self.answer(&input[..received], about, now);
                    if received < share.full {
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

    fn answer(&mut self, input: &[u8], about: &mut About, now: Instant) {
        if self.stage != Stage::Conversing {
            return;
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
        self.pressure.update(self.output.len() - self.sent);
    }

    /// Sends what can be sent, and takes the conversation to its next stage.
    fn proceed(&mut self, now: Instant) -> nix::Result<Progress> {
        self.flush()?;
        if self.stage == Stage::Ending && self.output.is_empty() {
            if self.end_of_file || self.is_delivered() {
                return Ok(Progress::Ended);
            }
            shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
            self.stage = Stage::Discarding;
            self.deadline.end_within(LINGER, now);
        }
        if self.wants_input() {
            Ok(Progress::More)
        } else {
            Ok(Progress::Drained)
        }
    }

    fn flush(&mut self) -> nix::Result<()> {
        let stream = self.stream.as_raw_fd();
        while self.sent < self.output.len() {
            let unsent = &self.output[self.sent..];
            match send(stream, unsent, MsgFlags::MSG_NOSIGNAL) {
                Ok(accepted) => self.sent += accepted,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
        self.pressure.update(self.output.len() - self.sent);
        Ok(())
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
