//! Events as a tracer sees them, in the order in which it sees them.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::calls::Operation;
use super::names;
use super::remote::u32_at;

/// One thing that a thread did, or that happened to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When the tracer saw it, on the clock of [`now`].
    pub at: Duration,
    pub pid: Pid,
    pub tid: Pid,
    pub what: EventKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A system call begins, with the memory that it passes to the kernel.
    Enter(Call),
    /// The thread's call ends, with the memory that the kernel has filled.
    /// Calls of one thread do not nest, so it belongs to the last `Enter`.
    Exit(Outcome),
    /// The process submits this with the io_uring_enter(2) that it has entered.
    /// The event follows the `Enter` of that call.
    Submitted(Submission),
    /// The kernel has completed this. The event is between the `Enter` and the
    /// `Exit` of an io_uring_enter(2) if it happened during that call, else
    /// before the `Enter`.
    Completed(Completion),
    /// A signal is about to be delivered.
    Signal(Signal),
    /// This process started the event's thread or process: a thread if the
    /// process is the same, else a child.
    Started { by: Pid },
    /// The process has executed another program (execve(2)).
    Executed,
    /// The thread has ended. For the last thread of a process, this is the exit
    /// status of the process.
    Ended(ExitStatus),
}

/// A system call as it was entered.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name in the kernel's own table: `accept4`, `epoll_pwait`. Empty for
    /// a number that the table does not have.
    pub name: &'static str,
    pub arguments: [u64; 6],
    pub memory: Memory,
}

/// The result of a system call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The kernel's return value; an errno is negative.
    pub result: i64,
    pub memory: Memory,
}

/// An operation submitted to io_uring(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub operation: Operation,
    pub fd: i32,
    /// The flags of the system call of that name.
    pub flags: u32,
    /// The first bytes of the data to send.
    pub data: Box<[u8]>,
}

/// A completion: the end of an operation, or its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub operation: Operation,
    /// The descriptor of the submission.
    pub fd: i32,
    /// The return value of the call of that name; an errno is negative.
    pub result: i32,
    /// The number of bytes of the result that are not data: recvmsg puts the
    /// sender's address in front.
    pub header: u64,
    /// The first bytes of what was received.
    pub data: Box<[u8]>,
}

/// The first bytes that arguments point to, by the arguments' positions. For
/// vectors (iovec, msghdr) it is the data, not the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory(pub Vec<(u8, Box<[u8]>)>);

/// A signal with the part of siginfo_t that describes its source, see
/// sigaction(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub number: i32,
    /// SI_USER, SI_TKILL, POLL_IN, ...
    pub code: i32,
    /// The descriptor, if its readiness caused the signal.
    pub fd: Option<i32>,
    /// The sender, if a process sent the signal.
    pub sender: Option<Pid>,
}

impl Memory {
    /// Returns the memory that the argument at `position` points to; empty if
    /// none was read.
    pub fn of(&self, position: u8) -> &[u8] {
        let entry = self.0.iter().find(|(place, _)| *place == position);
        entry.map_or(&[], |(_, bytes)| bytes)
    }
}

impl Signal {
    /// Parses the start of a siginfo_t, whose layout is the same on all
    /// 64-bit machines.
    pub fn parse(siginfo: &[u8]) -> Option<Self> {
        let word = |at| u32_at(siginfo, at).cast_signed();
        (siginfo.len() >= 28)
            .then(|| Self::new(word(0), word(8), word(24), word(16)))
    }

    /// Makes a signal from the members that both structs of the kernel have.
    /// The code determines which of them are valid.
    pub fn new(number: i32, code: i32, fd: i32, sender: i32) -> Self {
        // POLL_IN to POLL_HUP, the codes of signals of descriptors, see
        // F_SETOWN and F_SETSIG in fcntl(2). A SIGIO without such a code names
        // no descriptor.
        let polled = (1..=6).contains(&code) && number != libc::SIGCHLD;
        let sent = matches!(
            code,
            libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL | SI_ASYNCIO
        );
        Self {
            number,
            code,
            fd: polled.then_some(fd),
            sender: sent.then(|| Pid::from_raw(sender)),
        }
    }
}

/// The code of glibc's signal for a finished aio_read(3), which libc does not
/// define.
pub const SI_ASYNCIO: i32 = -4;

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names::signal(self.number))
    }
}

/// Returns the time on the clock of all events, CLOCK_MONOTONIC.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Into::into)
}
