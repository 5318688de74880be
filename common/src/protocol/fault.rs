//! Protocol errors, with Redis 7.0's texts. Each ends its conversation.

use super::reply::Reply;

/// A protocol error. Its reply is the last one of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A line of words over the limit.
    LongWords,
    /// A first line over the limit.
    LongCount,
    /// An argument's header over the limit.
    LongLength,
    /// No number of arguments, or too large a one, or more arguments than the
    /// request limit has room for.
    Count,
    /// No length of an argument, or one over the request limit, alone or with
    /// those before it.
    Length,
    /// This byte where an argument's header starts.
    NoHeader(u8),
    /// Quotes in a line of words that aren't closed.
    Unbalanced,
    /// No memory for a request or its reply.
    NoMemory,
}

impl Fault {
    pub(crate) fn answer(self, reply: &mut impl Reply) {
        reply.put(b"-ERR ");
        if self != Self::NoMemory {
            reply.put(b"Protocol error: ");
        }
        reply.put(match self {
            Self::LongWords => b"too big inline request",
            Self::LongCount => b"too big mbulk count string",
            Self::LongLength => b"too big bulk count string",
            Self::Count => b"invalid multibulk length",
            Self::Length => b"invalid bulk length",
            Self::NoHeader(_) => b"expected '$', got '",
            Self::Unbalanced => b"unbalanced quotes in request",
            Self::NoMemory => b"out of memory",
        });
        if let Self::NoHeader(byte) = self {
            reply.shown([byte].into_iter());
            reply.put(b"'");
        }
        reply.put(b"\r\n");
    }
}
