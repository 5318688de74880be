//! The readiness that mio reports for a connection, and what is read for it.

use mio::Interest;
use mio::event::Event;

use common::limits::{INPUT_CHUNK, READ_BUDGET};

use crate::connection::ReadPolicy;

/// Readable, and a short recv may hide something: EOF after the data, or an
/// urgent byte, at which the recv has ended (tcp(7)). It is also the synthetic
/// event of a connection that mio has not reported.
pub const READABLE: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Returns whether to read, to write, or both. An error or a hang-up counts as
/// both, because the next call returns which it is.
pub fn reasons(event: &Event) -> Interest {
    let read = match event.is_read_closed() || event.is_priority() {
        true => READABLE,
        false => Interest::READABLE,
    };
    match (event.is_readable(), event.is_writable()) {
        _ if event.is_error() || event.is_write_closed() => {
            read | Interest::WRITABLE
        }
        (true, true) => read | Interest::WRITABLE,
        (false, true) => Interest::WRITABLE,
        (_, false) => read,
    }
}

/// Returns how much to read: until the socket is drained, up to the read
/// budget. A short recv means that it is drained (epoll(7), "Questions and
/// answers"), unless it may hide something.
pub fn read_policy(reasons: Interest) -> ReadPolicy {
    let drained_below = if reasons.is_priority() { 0 } else { INPUT_CHUNK };
    ReadPolicy { budget: READ_BUDGET, drained_below }
}
