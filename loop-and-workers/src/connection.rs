//! One client: what happens when its stream is readable or writable, and its
//! conversation, which a worker can have. In the readiness models the two are
//! one.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use common::{About, BackPressure, Session, Timeout};

use crate::queues::{unacknowledged, unread};

/// One client: its socket, and its conversation unless a worker has that. An
/// idle client holds no buffer.
pub struct Connection {
    /// In `io`, a worker uses it too.
    pub stream: Arc<OwnedFd>,
    /// The timeout that an event has started. The loop takes it from here.
    pub timeout: Option<Timeout>,
    /// `None` while a worker has it. It has one owner at a time, so the replies
    /// stay in order, and none of it is locked.
    conversation: Option<Conversation>,
    stage: Stage,
    end_of_file: bool,
    /// During the drain: how many of the bytes that had arrived when it began
    /// are still to be received.
    remaining_input: Option<u32>,
    pressure: BackPressure,
}

/// The client's half of the protocol, and its pending output: what a worker
/// needs to answer a request.
pub struct Conversation {
    session: Session,
    /// `None` if no replies are pending.
    output: Option<Box<Output>>,
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

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The socket is drained, or is not to be read now.
    Drained,
    /// This many bytes were received, and are to be answered.
    Received(usize),
    /// The conversation has ended.
    Ended,
}

impl Connection {
    pub fn new(stream: OwnedFd, session: Session) -> Self {
        let conversation = Conversation { session, output: None };
        Self {
            stream: Arc::new(stream),
            timeout: None,
            conversation: Some(conversation),
            stage: Stage::Conversing,
            end_of_file: false,
            remaining_input: None,
            pressure: BackPressure::default(),
        }
    }

    /// True while a worker has the conversation.
    pub fn is_lent(&self) -> bool {
        self.conversation.is_none()
    }

    /// False while a worker has the conversation or too much output is pending,
    /// and at the end.
    pub fn wants_input(&self) -> bool {
        match self.stage {
            _ if self.is_lent() => false,
            Stage::Conversing => self.pressure.admits_input(),
            Stage::Ending => false,
            Stage::Discarding => true,
        }
    }

    /// True if input is to be answered, false if it is to be discarded.
    pub fn answers_input(&self) -> bool {
        self.stage == Stage::Conversing
    }

    /// True while output is pending after a short write.
    pub fn has_output(&self) -> bool {
        self.conversation.as_ref().is_some_and(|it| it.pending() > 0)
    }

    /// Receives what has arrived. Input that is to be answered is left in
    /// `input`.
    pub fn on_readable(
        &mut self,
        input: &mut [u8],
        about: &mut About,
    ) -> nix::Result<Outcome> {
        if self.wants_input() {
            let received = receive(&self.stream, input, about)?;
            if let Some(received) = self.note(received) {
                return Ok(Outcome::Received(received));
            }
        }
        self.flush_and_advance()
    }

    /// Notes how much was received; `None` if nothing had arrived. Returns how
    /// much of it is to be answered.
    pub fn note(&mut self, received: Option<usize>) -> Option<usize> {
        match received? {
            0 => {
                self.end_of_file = true;
                self.stage = Stage::Ending;
                None
            }
            received if self.answers_input() => {
                self.remaining_input = self
                    .remaining_input
                    .map(|left| left.saturating_sub(received as u32));
                Some(received)
            }
            _ => None,
        }
    }

    /// Gives the conversation to a worker. Returns `None` if one has it
    /// already.
    pub fn lend(&mut self) -> Option<Conversation> {
        self.conversation.take()
    }

    /// Takes the conversation back from a worker that has completed this many
    /// requests.
    pub fn take_back(
        &mut self,
        conversation: Conversation,
        completed: usize,
        about: &mut About,
    ) {
        if completed > 0 {
            about.counters.requests += completed as u64;
            self.timeout = Some(Timeout::Idle);
        }
        let over = !conversation.session.wants_input()
            || self.remaining_input == Some(0);
        if over && self.stage == Stage::Conversing {
            self.stage = Stage::Ending;
        }
        self.pressure.update(conversation.pending());
        self.conversation = Some(conversation);
    }

    /// Sends what can be sent, and moves the conversation to its next stage.
    pub fn flush_and_advance(&mut self) -> nix::Result<Outcome> {
        let Some(conversation) = &mut self.conversation else {
            return Ok(Outcome::Drained);
        };
        conversation.flush(&self.stream)?;
        self.pressure.update(conversation.pending());
        if self.stage == Stage::Ending && !self.has_output() {
            if self.end_of_file || self.is_acknowledged() {
                return Ok(Outcome::Ended);
            }
            shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
            self.stage = Stage::Discarding;
            self.timeout = Some(Timeout::Linger);
        }
        Ok(Outcome::Drained)
    }

    /// Starts the drain: input that has arrived by now is answered, then the
    /// conversation ends. Later input is ignored.
    pub fn begin_drain(&mut self) -> nix::Result<()> {
        if self.remaining_input.is_some() {
            return Ok(());
        }
        // The kernel counts in an int.
        let left = unread(&self.stream)? as u32;
        self.remaining_input = Some(left);
        // While a worker has the last request, `take_back` ends it.
        if left == 0 && self.stage == Stage::Conversing && !self.is_lent() {
            self.stage = Stage::Ending;
        }
        Ok(())
    }

    /// True during the drain once the client's kernel has acknowledged all
    /// replies. The connection is closed then, without waiting for end of file.
    /// False while a worker has the conversation, which may hold more replies.
    pub fn is_acknowledged(&self) -> bool {
        self.remaining_input.is_some()
            && !self.is_lent()
            && self.stage != Stage::Conversing
            && !self.has_output()
            && unacknowledged(&self.stream) == Ok(0)
    }

    /// True if a request may be with a worker, or has arrived and will be read.
    pub fn may_have_a_request(&self) -> bool {
        let has_input = || unread(&self.stream).is_ok_and(|left| left > 0);
        self.is_lent() || self.wants_input() && has_input()
    }
}

impl Conversation {
    /// Processes input and adds the replies to the output. Returns how many
    /// requests the input has completed. This is what takes a worker's time.
    pub fn answer(&mut self, input: &[u8], about: &About) -> usize {
        let output = self.output.get_or_insert_default();
        output.forget_sent();
        self.session.answer(input, about, &mut output.replies)
    }

    /// Sends what can be sent now.
    pub fn flush(&mut self, stream: &OwnedFd) -> nix::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let stream = stream.as_raw_fd();
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
        if output.pending() == 0 {
            self.output = None;
        }
        Ok(())
    }

    /// Returns how many bytes of output are pending.
    fn pending(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.pending())
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

/// Copies what has arrived, without waiting: once, because a socket that is not
/// drained is reported again. Returns `None` if nothing has arrived, and 0 at
/// end of file.
pub fn receive(
    stream: &OwnedFd,
    input: &mut [u8],
    about: &mut About,
) -> nix::Result<Option<usize>> {
    loop {
        match recv(stream.as_raw_fd(), input, MsgFlags::empty()) {
            Err(Errno::EAGAIN) => {
                about.counters.empty_calls += 1;
                return Ok(None);
            }
            Err(Errno::EINTR) => {}
            received => return received.map(Some),
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
