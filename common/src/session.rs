//! One client's conversation over a stream: bytes in, replies out, no I/O.

use std::mem;

use crate::About;
use crate::protocol::{
    Conversation, Fault, Growing, LINE_MOST, Progress, Request, answer,
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
        let mut completed = 0;
        let taken = self.take_in(input, about, output, &mut completed);
        if let Err(fault) = taken {
            self.conversation.open = false;
            let mut reply = Growing::new(output);
            fault.answer(&mut reply);
            // Without memory even for this, the conversation ends in silence.
            let _ = reply.finish();
        }
        completed
    }

    /// False after QUIT or a protocol error: deliver what is left, then end
    /// the conversation.
    pub fn wants_input(&self) -> bool {
        self.conversation.open
    }

    /// What `receive` does, except that a fault is left to it.
    fn take_in(
        &mut self,
        input: &[u8],
        about: &About,
        output: &mut Vec<u8>,
        completed: &mut usize,
    ) -> Result<(), Fault> {
        let mut rest = input;
        let mut carried = mem::take(&mut self.carried);
        while self.conversation.open && !rest.is_empty() {
            // A request is looked at where it lies: in the input or, if it
            // started earlier, behind its start.
            let before = carried.len();
            let known = match before {
                0 => Progress::of(rest, self.max_request),
                _ => Err(mem::take(&mut self.progress)),
            };
            let (request, length) = match known {
                Ok(whole) => whole,
                Err(progress) => {
                    let Some(length) =
                        self.advance(progress, &mut carried, rest)?
                    else {
                        self.carried = carried;
                        return Ok(());
                    };
                    let bytes = if before > 0 { &carried } else { rest };
                    (Request::of(&bytes[..length]), length - before)
                }
            };
            let mut reply = Growing::new(output);
            let client = &mut self.conversation;
            if answer(request, about, client, &mut reply) {
                *completed += 1;
            }
            reply.finish()?;
            rest = &rest[length..];
            carried.clear();
        }
        Ok(())
    }

    /// The length of a request that is not simply there, once it is complete;
    /// until then, what there is of it is carried.
    #[inline(never)]
    fn advance(
        &mut self,
        mut progress: Progress,
        carried: &mut Vec<u8>,
        rest: &[u8],
    ) -> Result<Option<usize>, Fault> {
        let before = carried.len();
        if before > 0 {
            self.carry(carried, rest)?;
        }
        let bytes = if before > 0 { &*carried } else { rest };
        let length = progress.advance(bytes, self.max_request)?;
        if length.is_none() {
            if before == 0 {
                self.carry(carried, rest)?;
            }
            self.progress = progress;
        }
        Ok(length)
    }

    /// Appends to the start of a request all that may belong to it.
    ///
    /// Memory doubles as bytes arrive, never because they were announced. It
    /// is asked for once in a call of `receive`: room for all of `tail` is
    /// room for the start of a later request within it.
    fn carry(&self, carried: &mut Vec<u8>, tail: &[u8]) -> Result<(), Fault> {
        // An incomplete request is shorter, or it would be at fault by now.
        let longest =
            self.max_request.saturating_mul(2).saturating_add(LINE_MOST + 2);
        let tail = &tail[..tail.len().min(longest - carried.len())];
        let wanted = carried.len() + tail.len();
        if wanted > carried.capacity() {
            let doubled = carried.capacity().saturating_mul(2).min(longest);
            let more = wanted.max(doubled) - carried.len();
            carried.try_reserve_exact(more).map_err(|_| Fault::NoMemory)?;
        }
        carried.extend_from_slice(tail);
        Ok(())
    }
}
