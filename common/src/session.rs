//! One client's conversation over a stream: bytes in, replies out, no I/O.

use std::mem;

use crate::About;
use crate::protocol::{
    Arguments, Conversation, Growing, LINE_MOST, Progress, answer,
};

/// One client's half of the conversation.
///
/// Holds no memory but its own few bytes, except while a request is
/// incomplete: then what has arrived of it, which is at most twice the request
/// limit and one line ([`LINE_MOST`]).
#[derive(Debug)]
pub struct Session {
    conversation: Conversation,
    max_request: usize,
    /// The start of an incomplete request; empty between requests.
    carried: Vec<u8>,
    /// How far that start has been understood.
    progress: Progress,
}

impl Session {
    /// A new conversation. `id` is what `CLIENT ID` and HELLO report;
    /// `max_request` bounds the bytes of one request's arguments.
    pub fn new(id: u64, max_request: usize) -> Self {
        Self {
            conversation: Conversation::new(id),
            max_request,
            carried: Vec::new(),
            progress: Progress::default(),
        }
    }

    /// Takes bytes that arrived, appends the replies they complete to
    /// `output`, says how many requests they completed.
    ///
    /// Never fails: what can't be understood is answered with an error that
    /// ends the conversation. How the input is cut into pieces makes no
    /// difference to the output.
    pub fn receive(
        &mut self,
        input: &[u8],
        about: &About,
        output: &mut Vec<u8>,
    ) -> usize {
        if !self.conversation.open {
            return 0;
        }
        let mut rest = input;
        let mut completed = 0;
        let mut carried = mem::take(&mut self.carried);
        if !carried.is_empty() {
            let before = carried.len();
            if !self.carry(&mut carried, rest, output) {
                return 0;
            }
            let Some(length) = self.find(&carried, output) else {
                self.keep(carried);
                return 0;
            };
            completed += self.answer(&carried[..length], about, output);
            rest = &rest[length - before..];
            carried.clear();
        }
        while self.conversation.open && !rest.is_empty() {
            let Some(length) = self.find(rest, output) else {
                if self.carry(&mut carried, rest, output) {
                    self.keep(carried);
                }
                break;
            };
            let (request, after) = rest.split_at(length);
            completed += self.answer(request, about, output);
            rest = after;
        }
        completed
    }

    /// False after QUIT or a protocol error: deliver what is left, then end
    /// the conversation.
    pub fn wants_input(&self) -> bool {
        self.conversation.open
    }

    /// The length of the request that `bytes` begins with, if it is complete.
    fn find(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Option<usize> {
        match self.progress.advance(bytes, self.max_request) {
            Ok(length) => {
                if length.is_some() {
                    self.progress = Progress::default();
                }
                length
            }
            Err(malformed) => {
                self.conversation.open = false;
                let mut reply = Growing::new(output);
                malformed.answer(&mut reply);
                reply.finish();
                None
            }
        }
    }

    /// Answers one complete request. Returns 1; 0 if it asks for nothing.
    fn answer(
        &mut self,
        request: &[u8],
        about: &About,
        output: &mut Vec<u8>,
    ) -> usize {
        let arguments = Arguments::of(request);
        if arguments.is_empty() {
            return 0;
        }
        let mut reply = Growing::new(output);
        answer(arguments, about, &mut self.conversation, &mut reply);
        if !reply.finish() {
            self.conversation.open = false;
        }
        1
    }

    /// Appends to the start of a request what may belong to it. False if there
    /// is no memory, which ends the conversation.
    ///
    /// Memory doubles as bytes arrive, never because they were announced, and
    /// is asked for once: room for all of `tail` is room for any part of it.
    fn carry(
        &mut self,
        carried: &mut Vec<u8>,
        tail: &[u8],
        output: &mut Vec<u8>,
    ) -> bool {
        // An incomplete request is shorter, or it would be malformed by now.
        let longest =
            self.max_request.saturating_mul(2).saturating_add(LINE_MOST + 2);
        let tail = &tail[..tail.len().min(longest - carried.len())];
        let wanted = carried.len() + tail.len();
        if wanted > carried.capacity() {
            let doubled = carried.capacity().saturating_mul(2).min(longest);
            let more = wanted.max(doubled) - carried.len();
            if carried.try_reserve_exact(more).is_err() {
                self.conversation.open = false;
                Growing::new(output).refuse();
                return false;
            }
        }
        carried.extend_from_slice(tail);
        true
    }

    /// Keeps the start of a request until more arrives, unless nothing will.
    fn keep(&mut self, carried: Vec<u8>) {
        if self.conversation.open {
            self.carried = carried;
        }
    }
}
