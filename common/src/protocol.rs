//! The protocol: RESP2 and RESP3, as far as a server without data needs them.
//!
//! The specification is
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>; where it
//! is silent, what Redis 7.0 does counts. Bytes become a request in three
//! steps, none of which copies: `Progress` finds where a request ends,
//! `Request` has its name and its arguments, `answer` looks the command up and
//! writes into a `Reply`. For a request that is complete at once,
//! `Progress::of` does the first two in one.
//!
//! The code that every request runs is marked `#[inline(always)]`. A pipelined
//! PING has so few bytes that calls, and structures passed in memory, would
//! double its cost.
//!
//! # Deviations from Redis 7.0
//!
//! Replies are the same, byte for byte, but for these:
//!
//! - The request limit counts the bytes of all arguments together. A header
//!   that takes the sum over it gets `invalid bulk length`. Redis limits each
//!   argument to 512 MiB. An inline request is limited by its line only, as in
//!   Redis.
//! - All other bytes of a request (count, headers, line ends) have a second
//!   limit of the same size, checked with each header: over it, the error is
//!   `invalid multibulk length`. Redis limits the count alone.
//! - A line over [`LINE_MOST`] is an error however it arrives. Redis looks at
//!   the length only while the line's end isn't there, and then counts a `\r`
//!   whose `\n` is missing.
//! - Requests before `POST` or `Host:` are still answered. Redis drops replies
//!   that it hasn't delivered.
//! - A byte sent as urgent data is part of the stream. Redis never receives it.
//! - There is no data: commands but the ones of this service are unknown, and
//!   INFO, CONFIG GET and COMMAND tell about this service. COMMAND DOCS is
//!   empty; COMMAND INFO shows no access categories, no tips and no commands
//!   within others; COMMAND LIST takes no filter.
//! - A client's name is kept up to 16 bytes.
//! - CLIENT SETINFO and CLIENT NO-TOUCH, new in Redis 7.2, are accepted:
//!   client libraries begin with them.
//! - DEBUG has SLEEP, at most a second, SPIN, and HELP. It is allowed with
//!   `--enable-debug-command`, on streams.
//! - Where memory is refused, the reply is `-ERR out of memory`, and the last
//!   one. Redis aborts.

mod answer;
mod argument;
mod client;
mod command;
mod config;
mod conversation;
mod debug;
mod fault;
mod glob;
mod help;
mod info;
mod inline;
mod introspection;
mod number;
mod output;
mod progress;
mod reply;

pub use progress::LINE_MOST;

pub(crate) use answer::answer;
pub(crate) use argument::Request;
pub(crate) use conversation::Conversation;
pub(crate) use fault::Fault;
pub(crate) use output::{Fixed, Growing};
pub(crate) use progress::{COUNT_MOST, Progress};
pub(crate) use reply::Reply;
