//! System calls of both sides, as the ladder shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::packet::Side;

/// How a call relates to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Sends the SYN and waits for the SYN ACK.
    Connect,
    /// Accepts a connection after its handshake.
    Accept,
    /// Sends this many bytes.
    Send(usize),
    /// Receives this many bytes; 0 at EOF.
    Receive(usize),
    /// Closes the sending direction, which sends a FIN.
    Shutdown,
    Close,
    /// Any other call, which is not tied to a certain packet.
    Other,
}

/// The origin of a call, or of an event shown as a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client's only thread.
    Client,
    /// A thread of the server.
    Thread(i32),
    /// The kernel, which may interrupt a call of this thread.
    Kernel(i32),
}

/// One system call.
#[derive(Clone, Debug)]
pub struct Call {
    pub side: Side,
    pub origin: Origin,
    pub kind: CallKind,
    /// `recvfrom`, shown at its return.
    pub name: String,
    /// `recvfrom(client 1, 4096)`, shown at its beginning.
    pub text: String,
    /// `6`, or the name of an error. Empty if nothing is returned.
    pub result: String,
    /// Time since the epoch (CLOCK_REALTIME), as for packets.
    pub begun: Duration,
    /// None if it hasn't returned.
    pub ended: Option<Duration>,
}

/// Reads the clock of the packets' times.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Call {
    /// Returns whether both are the same call. A thread makes one at a time.
    pub fn is(&self, other: &Self) -> bool {
        self.origin == other.origin && self.begun == other.begun
    }
}
