//! Requests and their replies, as Redis 7.0 gives them.

#![allow(dead_code, reason = "each test file uses its own part of it")]

mod commands;
mod forms;

use common::{About, Counters, Session};

/// One request's argument bytes: few, so that rows can go over them.
pub(crate) const MAX_REQUEST: usize = 256;

pub(crate) const DEBUG_NOT_ALLOWED: &[u8] =
    b"-ERR DEBUG command not allowed: a stream to a server with \
      --enable-debug-command is required\r\n";

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) input: &'static [u8],
    pub(crate) output: &'static [u8],
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Ready for the next request, and in RESP2.
    Open,
    /// In the middle of a request.
    Incomplete,
    /// Over.
    Ended,
}

const fn row(
    name: &'static str,
    input: &'static [u8],
    output: &'static [u8],
    end: End,
) -> Row {
    Row { name, input, output, end }
}

/// All rows. One that ends `Open` leaves the client in RESP2, without a name.
pub(crate) fn rows() -> Vec<&'static Row> {
    forms::ROWS.iter().chain(commands::ROWS).collect()
}

/// Counters as large as they get: INFO's length is what matters.
pub(crate) fn about() -> About {
    About {
        model: "multiplexing-epoll",
        variant: "edge",
        pid: 42,
        tid: 43,
        event_loop: None,
        kernel: "6.1.0-test",
        counters: Counters {
            clients: 1,
            accepted: 2,
            rejected: 3,
            requests: 4,
            empty_calls: 6,
            datagrams: 5,
            datagrams_dropped: u64::MAX,
        },
    }
}

/// The result of some input that was fed in pieces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) output: Vec<u8>,
    pub(crate) completed: usize,
    pub(crate) open: bool,
}

pub(crate) fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    feed_with(MAX_REQUEST, pieces)
}

/// Feeds a session with another limit on a request.
pub(crate) fn feed_with<'a>(
    max_request: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let about = about();
    let mut session = Session::new(7, max_request);
    let mut output = Vec::new();
    let completed = pieces
        .into_iter()
        .map(|piece| session.answer(piece, &about, &mut output))
        .sum();
    Outcome { output, completed, open: session.wants_input() }
}
