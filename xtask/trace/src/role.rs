//! The purpose of a descriptor: the listener, client 1, the epoll instance.

use std::fmt;

/// The purpose of a descriptor. Descriptors of one kind are numbered from 1, in
/// the order of their appearance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A socket that listens for streams.
    Listener(u32),
    /// An accepted stream.
    Client(u32),
    /// A socket for datagrams.
    Datagrams(u32),
    /// A stream socket that neither listens nor was accepted.
    Socket(u32),
    Epoll(u32),
    /// io_uring(7).
    Ring(u32),
    /// eventfd(2), with which another thread wakes this one.
    Event(u32),
    /// signalfd(2).
    Signals(u32),
    Timer(u32),
    /// One end of a pipe or of a pair of sockets.
    Pipe(u32),
    /// The spare descriptor, which is closed when no other is left.
    Spare,
    Input,
    Output,
    Errors,
    File(String),
    /// A descriptor whose opening was not seen.
    Unknown(i32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, number) = match self {
            Self::Listener(number) => ("listener", number),
            Self::Client(number) => return write!(f, "client {number}"),
            Self::Datagrams(number) => ("datagrams", number),
            Self::Socket(number) => ("socket", number),
            Self::Epoll(number) => ("epoll", number),
            Self::Ring(number) => ("ring", number),
            Self::Event(number) => ("eventfd", number),
            Self::Signals(number) => ("signals", number),
            Self::Timer(number) => ("timer", number),
            Self::Pipe(number) => ("pipe", number),
            Self::Spare => return f.write_str("spare descriptor"),
            Self::Input => return f.write_str("stdin"),
            Self::Output => return f.write_str("stdout"),
            Self::Errors => return f.write_str("stderr"),
            Self::File(path) => return f.write_str(path),
            Self::Unknown(fd) => return write!(f, "descriptor {fd}"),
        };
        match number {
            1 => f.write_str(name),
            _ => write!(f, "{name} {number}"),
        }
    }
}

impl Role {
    /// Returns whether requests arrive here.
    pub fn carries_requests(&self) -> bool {
        matches!(self, Self::Client(_) | Self::Datagrams(_))
    }
}
