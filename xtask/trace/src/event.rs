//! Events as a tracer sees them, in the order in which it sees them.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::calls::Operation;
use super::names;
use super::remote::u32_at;

/// One thing that a thread did, or that was done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// On the clock of [`now`], when the tracer saw it.
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
    /// Calls of one thread do not nest: it belongs to the last `Enter`.
    Exit(Outcome),
    /// The process hands this over with the io_uring_enter(2) that it has
    /// entered; events follow the call's `Enter`.
    Submitted(Submission),
    /// The kernel has completed this. Between the `Enter` and the `Exit` of an
    /// io_uring_enter(2) if it did so during that call, else before `Enter`.
    Completed(Completion),
    /// A signal is about to be delivered.
    Signal(Signal),
    /// The event's thread or process was started by this process: a thread
    /// where that is its own process, else a child.
    Started { by: Pid },
    /// The process has become another program (execve(2)).
    Executed,
    /// The thread has ended; the last one of a process, with its status.
    Ended(ExitStatus),
}

/// A system call as it was entered.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Of the kernel's own table: `accept4`, `epoll_pwait`. Empty for a number
    /// that the table does not have.
    pub name: &'static str,
    pub arguments: [u64; 6],
    pub memory: Memory,
}

/// How a system call ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// As the kernel returns it: an errno is negative.
    pub result: i64,
    pub memory: Memory,
}

/// An operation for io_uring(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub operation: Operation,
    pub fd: i32,
    /// Those of the call of that name.
    pub flags: u32,
    /// The first bytes of what it is to send.
    pub data: Box<[u8]>,
}

/// The end of an operation, or its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub operation: Operation,
    /// Of the submission.
    pub fd: i32,
    /// As the call of that name would return it: an errno is negative.
    pub result: i32,
    /// As many bytes of the result are no data: recvmsg puts the sender's
    /// address in front.
    pub header: u64,
    /// The first bytes of what was received.
    pub data: Box<[u8]>,
}

/// The first bytes of what arguments point to, by the arguments' positions.
/// Of vectors (iovec, msghdr) it is the data, not the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory(pub Vec<(u8, Box<[u8]>)>);

/// A signal with the part of siginfo_t that says where it comes from, see
/// sigaction(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub number: i32,
    /// SI_USER, SI_TKILL, POLL_IN, ...
    pub code: i32,
    /// Of a signal that a descriptor's readiness caused.
    pub fd: Option<i32>,
    /// Of a signal that a process sent.
    pub sender: Option<Pid>,
}

impl Memory {
    /// The memory that the argument at `position` points to; empty where none
    /// was read.
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

    /// From the members of either struct that the kernel has for it; which of
    /// them means something, the code says.
    pub fn new(number: i32, code: i32, fd: i32, sender: i32) -> Self {
        // POLL_IN to POLL_HUP: as fcntl(2)'s F_SETOWN and F_SETSIG have it.
        // SIGIO itself tells no more than that it came.
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

/// The code that glibc gives the signal of a finished aio_read(3); libc does
/// not name it.
pub const SI_ASYNCIO: i32 = -4;

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names::signal(self.number))
    }
}

/// The clock that all events are dated by: CLOCK_MONOTONIC.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Into::into)
}
