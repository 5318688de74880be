//! What can be wrong with a request's form, in Redis 7.0's words.

use super::reply::Reply;

/// Why the bytes are no request. Nothing behind them can be understood: the
/// reply is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
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
}

impl Malformed {
    pub(crate) fn answer(self, reply: &mut impl Reply) {
        reply.put(b"-ERR Protocol error: ");
        reply.put(match self {
            Self::LongWords => b"too big inline request",
            Self::LongCount => b"too big mbulk count string",
            Self::LongLength => b"too big bulk count string",
            Self::Count => b"invalid multibulk length",
            Self::Length => b"invalid bulk length",
            Self::NoHeader(_) => b"expected '$', got '",
            Self::Unbalanced => b"unbalanced quotes in request",
        });
        if let Self::NoHeader(byte) = self {
            reply.shown([byte].into_iter());
            reply.put(b"'");
        }
        reply.put(b"\r\n");
    }
}
