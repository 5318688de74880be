//! One client's conversation over a stream: bytes go in, replies come out. It
//! does no I/O.

use std::mem;

use crate::About;
use crate::protocol::{
    COUNT_MOST, Conversation, Fault, Growing, LINE_MOST, Progress, Request,
    answer,
};

/// The server's side of one conversation.
///
/// It holds no heap memory, except while a request is incomplete: then it holds
/// what has arrived of it, which is at most twice the request limit and one
/// line ([`LINE_MOST`]).
#[derive(Debug)]
pub struct Session {
    conversation: Conversation,
    /// `None` between requests.
    incomplete: Option<Box<Incomplete>>,
}

/// The start of a request whose rest has not arrived.
#[derive(Debug, Default)]
struct Incomplete {
    bytes: Vec<u8>,
    /// How far it has been parsed.
    progress: Progress,
}

impl Session {
    /// Begins a conversation. `CLIENT ID` and HELLO report `id`; `max_request`
    /// limits the bytes of one request's arguments.
    pub fn new(id: u64, max_request: usize) -> Self {
        let max_request = u32::try_from(max_request).unwrap_or(u32::MAX);
        Self {
            conversation: Conversation::new(id, max_request),
            incomplete: None,
        }
    }

    /// Allows the client to use DEBUG.
    #[must_use]
    pub fn with_debug(mut self) -> Self {
        self.conversation.debug = true;
        self
    }

    /// Processes input and appends the replies to `output`. Returns how many
    /// requests the input has completed.
    ///
    /// It never fails: a malformed request is answered with an error, which
    /// ends the conversation. The output does not depend on how the input is
    /// cut into pieces.
    pub fn answer(
        &mut self,
        input: &[u8],
        about: &About,
        output: &mut Vec<u8>,
    ) -> usize {
        let mut completed = 0;
        let taken = self.take_in(input, about, output, &mut completed);
        if let Err(fault) = taken {
            self.conversation.open = false;
            self.incomplete = None;
            let mut reply = Growing::new(output);
            fault.answer(&mut reply);
            // If there is no memory even for this, the conversation ends
            // without it.
            let _ = reply.finish();
        }
        completed
    }

    /// False after QUIT or a protocol error: send the pending replies, then end
    /// the conversation.
    pub fn wants_input(&self) -> bool {
        self.conversation.open
    }

    fn max_request(&self) -> usize {
        self.conversation.max_request as usize
    }

    /// Processes input; a fault is left to `answer`.
    fn take_in(
        &mut self,
        input: &[u8],
        about: &About,
        output: &mut Vec<u8>,
        completed: &mut usize,
    ) -> Result<(), Fault> {
        let mut rest = input;
        let before = self.incomplete.as_deref_mut();
        let mut start = before.map(mem::take).unwrap_or_default();
        while self.conversation.open && !rest.is_empty() {
            if start.bytes.is_empty() {
                match Progress::of(rest, self.max_request()) {
                    Ok((request, length)) => {
                        self.answer_one(request, about, output, completed)?;
                        rest = &rest[length..];
                        continue;
                    }
                    Err(progress) => start.progress = progress,
                }
            }
            let taken =
                self.go_on(&mut start, rest, about, output, completed)?;
            let Some(length) = taken else {
                **self.incomplete.get_or_insert_default() = start;
                return Ok(());
            };
            rest = &rest[length..];
        }
        self.incomplete = None;
        Ok(())
    }

    /// Continues a request that was not complete at once, in `rest` or, if it
    /// started earlier, in `start`. When it is complete, answers it and returns
    /// how much of `rest` belongs to it; until then, appends to `start`.
    #[inline(never)]
    fn go_on(
        &mut self,
        start: &mut Incomplete,
        rest: &[u8],
        about: &About,
        output: &mut Vec<u8>,
        completed: &mut usize,
    ) -> Result<Option<usize>, Fault> {
        let before = start.bytes.len();
        if before > 0 {
            self.carry(start, rest)?;
        }
        let bytes = if before > 0 { &start.bytes } else { rest };
        let Some(length) = start.progress.advance(bytes, self.max_request())?
        else {
            if before == 0 {
                self.carry(start, rest)?;
            }
            return Ok(None);
        };
        let request = Request::of(&bytes[..length]);
        self.answer_one(request, about, output, completed)?;
        start.bytes.clear();
        Ok(Some(length - before))
    }

    /// Answers a complete request.
    #[inline(always)]
    fn answer_one(
        &mut self,
        request: Request<'_>,
        about: &About,
        output: &mut Vec<u8>,
        completed: &mut usize,
    ) -> Result<(), Fault> {
        let mut reply = Growing::new(output);
        let client = &mut self.conversation;
        if answer(request, about, client, &mut reply) {
            *completed += 1;
        }
        reply.finish()
    }

    /// Appends everything to the start of a request that may belong to it.
    ///
    /// Memory at most doubles as bytes arrive, however many are announced. It
    /// is allocated once per call of `receive`, because room for all of `tail`
    /// is enough for the start of a later request within it.
    fn carry(&self, start: &mut Incomplete, tail: &[u8]) -> Result<(), Fault> {
        let carried = &mut start.bytes;
        // An incomplete request is shorter than this, or it would have failed
        // already: what precedes its last line is a count, or within both
        // limits.
        let before = self.max_request().saturating_mul(2).max(COUNT_MOST);
        let longest = before.saturating_add(LINE_MOST + 2);
        let tail = &tail[..tail.len().min(longest - carried.len())];
        let wanted = carried.len() + tail.len();
        if wanted > carried.capacity() {
            // An argument of which most has arrived is allocated once.
            let room = match carried.capacity() {
                0 => start.progress.announced().min(2 * wanted),
                held => 2 * held,
            };
            let more = room.min(longest).max(wanted) - carried.len();
            carried.try_reserve_exact(more).map_err(|_| Fault::NoMemory)?;
        }
        carried.extend_from_slice(tail);
        Ok(())
    }
}
