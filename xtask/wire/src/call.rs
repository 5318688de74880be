//! System calls of either side, as the ladder shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::packet::Side;

/// A call's part in the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Sends the SYN and waits for what answers it.
    Connect,
    /// Takes a connection whose handshake is complete.
    Accept,
    /// Gives so many bytes to the kernel.
    Send(usize),
    /// Has taken so many bytes from it; none at end of file.
    Receive(usize),
    /// Ends the sending side, and with it sends a FIN if none was sent.
    Shutdown,
    Close,
    /// Asks or waits, for nothing that a packet is certain to have brought.
    Other,
}

/// The origin of a call, or of an event that is shown as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client's only thread.
    Client,
    /// A thread of the server's.
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
    /// `recvfrom`, for when it returns, and `recvfrom(client 1, 4096)`.
    pub name: String,
    pub text: String,
    /// `6`, or the name of an error. Empty where nothing is returned.
    pub result: String,
    /// Since the epoch (CLOCK_REALTIME), as packets have it.
    pub begun: Duration,
    /// None if it waits still.
    pub ended: Option<Duration>,
}

/// The clock of the packets' times.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Call {
    /// Whether both are the same call: a thread makes one at a time.
    pub fn is(&self, other: &Self) -> bool {
        self.origin == other.origin && self.begun == other.begun
    }
}
