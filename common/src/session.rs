//! Stand-in until the protocol lands: PING only.

use crate::About;

/// One client's half of the conversation: bytes in, replies out, no I/O.
#[derive(Debug)]
pub struct Session {
    open: bool,
}

impl Session {
    /// A new conversation. `id` is what `CLIENT ID` and HELLO report;
    /// `max_request` bounds one request's argument bytes.
    pub fn new(_id: u64, _max_request: usize) -> Self {
        Self { open: true }
    }

    /// Takes bytes that arrived, appends the replies they complete to
    /// `output`, says how many requests they completed.
    pub fn receive(
        &mut self,
        _input: &[u8],
        _about: &About,
        output: &mut Vec<u8>,
    ) -> usize {
        output.extend_from_slice(b"+PONG\r\n");
        1
    }

    /// False after QUIT or a protocol error: send what is left, then end the
    /// conversation.
    pub fn wants_input(&self) -> bool {
        self.open
    }
}

/// Answers one datagram into `reply`, returns the reply's length.
pub fn answer_datagram(
    _datagram: &[u8],
    _about: &About,
    reply: &mut [u8],
) -> usize {
    reply[..7].copy_from_slice(b"+PONG\r\n");
    7
}
