//! The system calls that a trace understands, one row for each: the purpose of
//! the call, its arguments, and its effect on descriptors. The row determines
//! which memory is read, how the call is shown, and what rules may ask about
//! it. A call without a row is shown by its name alone.

use super::names::{self, Names};
use super::role::Role;

/// The purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Accept,
    Receive,
    Send,
    /// Waits until a descriptor is ready, or checks whether one is.
    Readiness,
    /// Waits for a signal.
    Signals,
    /// Submits operations and waits for completions.
    Ring,
    /// Sleeps.
    Sleep,
    /// Waits for another thread, or wakes it.
    Thread,
    /// Creates a process or a thread, waits for its end, or exits.
    Process,
    /// Specifies which descriptors to watch, and how.
    Register,
    Close,
    /// Manages memory, returns its own ID, and the like.
    Housekeeping,
    Other,
}

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct CallSpec {
    /// The name in the kernel's own table.
    pub name: &'static str,
    /// The common name of all calls that do the same. Which of them a program
    /// makes depends on the machine and the C library.
    pub general: &'static str,
    pub family: Family,
    pub effect: Effect,
    /// The first arguments; the others are not shown.
    pub arguments: &'static [ArgumentKind],
}

/// The meaning of an argument, which determines the memory that it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    /// Not shown.
    Skip,
    /// Stands for all that is not decoded.
    Rest,
    Fd,
    /// Memory that the kernel reads. The length of a plain buffer is the next
    /// argument.
    Data(Layout),
    /// Memory that the kernel fills.
    Buffer(Layout),
    /// The size of a buffer.
    Room,
    /// A socket's address that the kernel reads; it fills `AddressFilled`.
    Address,
    AddressFilled,
    Path,
    Number,
    AcceptFlags,
    MessageFlags,
    /// One of these values.
    Named(Names),
    SocketType,
    /// A level; the option is the next argument.
    SocketOption,
    /// A command of fcntl(2), which determines the meaning of the next
    /// argument.
    Command,
    FutexOperation,
    Signal,
    SignalSet,
    /// How to change the signal mask, by the set that the next argument points
    /// to.
    SignalMask,
    /// A siginfo_t that the kernel fills.
    SignalInfo,
    /// The process that wait4(2) waits for.
    Child,
    /// An array of pollfd; its length is the next argument.
    PollFds,
    /// The number of descriptors that the next three arguments have bits for.
    Sets,
    Set,
    /// Two descriptors that the kernel fills in.
    Pair,
    /// An array of epoll_event that the kernel fills.
    EpollEvents,
    /// An operation of epoll_ctl(2); the descriptor and an event follow.
    Control,
    /// This many bytes, which an earlier argument has shown already.
    Hidden(u64),
    /// Parameters of io_uring_setup(2).
    RingParameters,
    /// The timeout of the call.
    Milliseconds,
    Timespec,
    Timeval,
    /// The time to sleep.
    Pause,
}

/// The layout of data in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Plain,
    /// An array of iovec.
    Vector,
    /// A msghdr.
    Message,
}

/// The effect of a successful call on descriptors.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    None,
    /// The result is a new descriptor.
    Opens(fn(u32) -> Role),
    OpensSocket,
    /// The result is the descriptor of a file; this argument is its path.
    OpensFile(u8),
    /// Two new descriptors are in the memory of this argument.
    OpensPair(u8),
    Listens,
    /// The result is a copy of the first argument.
    Duplicates,
    /// The second argument becomes a copy of the first.
    Replaces,
    /// fcntl(2), some of whose commands duplicate.
    Controls,
    Closes,
    ClosesRange,
    /// epoll_ctl(2), which specifies the data of later events.
    Watches,
    /// sendmsg(2), which may pass descriptors to another process.
    Passes,
    /// recvmsg(2), which may receive descriptors.
    Receives,
    /// Sets up a ring, and returns its descriptor.
    SetsUpRing,
    /// mmap(2), which may map a part of a ring.
    Maps,
    /// io_uring_register(2).
    EquipsRing,
}

use ArgumentKind::{
    AcceptFlags, Address, AddressFilled, Buffer, Child, Command, Control, Data,
    EpollEvents, Fd, FutexOperation, Hidden, MessageFlags, Milliseconds, Named,
    Number, Pair, Path, Pause, PollFds, Rest, RingParameters, Room, Set, Sets,
    Signal, SignalInfo, SignalMask, SignalSet, Skip, SocketOption, SocketType,
    Timespec, Timeval,
};
use Effect::{
    Closes, ClosesRange, Controls, Duplicates, EquipsRing, Listens, Maps,
    Opens, OpensFile, OpensPair, OpensSocket, Passes, Receives, Replaces,
    SetsUpRing, Watches,
};
use Family::{
    Accept, Close, Housekeeping, Other, Process, Readiness, Receive, Register,
    Ring, Send, Signals, Sleep, Thread,
};
use Layout::{Message, Plain, Vector};

const NONE: Effect = Effect::None;
const EPOLL_EVENT: u64 = size_of::<libc::epoll_event>() as u64;

const fn row(
    name: &'static str,
    general: &'static str,
    family: Family,
    effect: Effect,
    arguments: &'static [ArgumentKind],
) -> CallSpec {
    CallSpec { name, general, family, effect, arguments }
}

/// Makes the row of a call that has no alternatives and returns no descriptor.
const fn plain(
    name: &'static str,
    family: Family,
    arguments: &'static [ArgumentKind],
) -> CallSpec {
    row(name, name, family, NONE, arguments)
}

/// The rows, sorted by name.
#[rustfmt::skip]
pub static CALLS: &[CallSpec] = &[
    row("accept", "accept", Accept, Opens(Role::Client), &[Fd]),
    row("accept4", "accept", Accept, Opens(Role::Client),
        &[Fd, Skip, Skip, AcceptFlags]),
    plain("bind", Other, &[Fd, Address]),
    row("clock_nanosleep", "sleep", Sleep, NONE, &[Skip, Skip, Pause]),
    row("clone", "clone", Process, NONE, &[]),
    row("clone3", "clone", Process, NONE, &[]),
    row("close", "close", Close, Closes, &[Fd]),
    row("close_range", "close_range", Close, ClosesRange, &[Rest]),
    plain("connect", Other, &[Fd, Address]),
    row("dup", "dup", Other, Duplicates, &[Fd]),
    row("dup2", "dup2", Other, Replaces, &[Fd, Number]),
    row("dup3", "dup3", Other, Replaces, &[Fd, Number]),
    row("epoll_create", "epoll_create", Other, Opens(Role::Epoll), &[]),
    row("epoll_create1", "epoll_create1", Other, Opens(Role::Epoll), &[]),
    row("epoll_ctl", "epoll_ctl", Register, Watches,
        &[Fd, Control, Skip, Hidden(EPOLL_EVENT)]),
    row("epoll_pwait", "epoll_wait", Readiness, NONE,
        &[Fd, EpollEvents, Skip, Milliseconds]),
    row("epoll_pwait2", "epoll_wait", Readiness, NONE,
        &[Fd, EpollEvents, Skip, Timespec]),
    row("epoll_wait", "epoll_wait", Readiness, NONE,
        &[Fd, EpollEvents, Skip, Milliseconds]),
    row("eventfd", "eventfd", Other, Opens(Role::Event), &[]),
    row("eventfd2", "eventfd2", Other, Opens(Role::Event), &[]),
    plain("execve", Other, &[Path]),
    plain("exit", Process, &[Number]),
    plain("exit_group", Process, &[Number]),
    row("fcntl", "fcntl", Register, Controls, &[Fd, Command]),
    row("fork", "clone", Process, NONE, &[]),
    plain("fstat", Housekeeping, &[Fd]),
    plain("futex", Thread, &[Skip, FutexOperation]),
    plain("getdents64", Other, &[Fd, Skip, Room]),
    plain("getpeername", Other, &[Fd, AddressFilled]),
    plain("getpid", Housekeeping, &[]),
    plain("getsockname", Other, &[Fd, AddressFilled]),
    plain("getsockopt", Other, &[Fd, SocketOption]),
    plain("gettid", Housekeeping, &[]),
    plain("io_uring_enter", Ring, &[Fd]),
    row("io_uring_register", "io_uring_register", Other, EquipsRing, &[Fd]),
    row("io_uring_setup", "io_uring_setup", Other, SetsUpRing,
        &[Number, RingParameters]),
    plain("ioctl", Other, &[Fd, Named(names::REQUESTS)]),
    plain("kill", Other, &[Number, Signal]),
    row("listen", "listen", Other, Listens, &[Fd, Number]),
    plain("lseek", Other, &[Fd]),
    row("mmap", "mmap", Housekeeping, Maps, &[Rest]),
    row("nanosleep", "sleep", Sleep, NONE, &[Pause]),
    row("open", "open", Other, OpensFile(0), &[Path]),
    row("openat", "openat", Other, OpensFile(1), &[Skip, Path]),
    plain("pause", Signals, &[Rest]),
    row("pipe", "pipe", Other, OpensPair(0), &[Pair]),
    row("pipe2", "pipe2", Other, OpensPair(0), &[Pair]),
    row("poll", "poll", Readiness, NONE, &[PollFds, Skip, Milliseconds]),
    row("ppoll", "poll", Readiness, NONE, &[PollFds, Skip, Timespec]),
    row("pread64", "receive", Receive, NONE, &[Fd, Buffer(Plain), Room]),
    row("preadv", "receive", Receive, NONE, &[Fd, Buffer(Vector)]),
    row("pselect6", "select", Readiness, NONE,
        &[Sets, Set, Set, Set, Timespec]),
    row("pwrite64", "send", Send, NONE, &[Fd, Data(Plain)]),
    row("pwritev", "send", Send, NONE, &[Fd, Data(Vector)]),
    row("read", "receive", Receive, NONE, &[Fd, Buffer(Plain), Room]),
    row("readv", "receive", Receive, NONE, &[Fd, Buffer(Vector)]),
    row("recvfrom", "receive", Receive, NONE,
        &[Fd, Buffer(Plain), Room, MessageFlags]),
    row("recvmmsg", "receive", Receive, NONE, &[Fd, Rest]),
    row("recvmsg", "receive", Receive, Receives, &[Fd, Buffer(Message)]),
    plain("rt_sigprocmask", Housekeeping, &[SignalMask, Hidden(8)]),
    plain("rt_sigqueueinfo", Other, &[Skip, Signal]),
    plain("rt_sigreturn", Other, &[]),
    plain("rt_sigsuspend", Signals, &[Rest]),
    plain("rt_sigtimedwait", Signals, &[SignalSet, SignalInfo, Timespec]),
    plain("sched_yield", Other, &[]),
    row("select", "select", Readiness, NONE,
        &[Sets, Set, Set, Set, Timeval]),
    row("sendmmsg", "send", Send, NONE, &[Fd, Rest]),
    row("sendmsg", "send", Send, Passes, &[Fd, Data(Message)]),
    row("sendto", "send", Send, NONE, &[Fd, Data(Plain), Skip, MessageFlags]),
    plain("setsockopt", Other, &[Fd, SocketOption]),
    plain("shutdown", Close, &[Fd, Named(names::DIRECTIONS)]),
    row("signalfd", "signalfd", Other, Opens(Role::Signals),
        &[Skip, SignalSet]),
    row("signalfd4", "signalfd4", Other, Opens(Role::Signals),
        &[Skip, SignalSet]),
    row("socket", "socket", Other, OpensSocket,
        &[Named(names::DOMAINS), SocketType]),
    row("socketpair", "socketpair", Other, OpensPair(3),
        &[Skip, Skip, Skip, Pair]),
    plain("tgkill", Other, &[Skip, Number, Signal]),
    row("timerfd_create", "timerfd_create", Other, Opens(Role::Timer), &[]),
    plain("timerfd_settime", Other, &[Fd]),
    row("vfork", "clone", Process, NONE, &[]),
    plain("wait4", Process, &[Child]),
    plain("waitid", Process, &[Rest]),
    row("write", "send", Send, NONE, &[Fd, Data(Plain)]),
    row("writev", "send", Send, NONE, &[Fd, Data(Vector)]),
];

/// Housekeeping calls whose arguments are not shown.
#[rustfmt::skip]
const QUIET: &[&str] = &[
    "brk", "fstatfs", "getppid", "getuid", "lstat", "madvise", "mprotect",
    "munmap", "newfstatat", "prctl", "rseq", "rt_sigaction",
    "sched_getparam", "sched_getscheduler", "set_robust_list",
    "sigaltstack", "stat", "statfs", "statx", "uname",
];

/// Returns the row of a call, or makes one for a call that has none.
pub fn of(name: &'static str) -> CallSpec {
    match CALLS.binary_search_by(|row| row.name.cmp(name)) {
        Ok(place) => CALLS[place],
        Err(_) if QUIET.contains(&name) => plain(name, Housekeeping, &[Rest]),
        Err(_) => plain(name, Other, &[Rest]),
    }
}

/// An operation of io_uring_enter(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The name in the man page, in lower case.
    pub name: &'static str,
    pub family: Family,
    pub layout: Layout,
}

const fn operation(name: &'static str, family: Family) -> Operation {
    Operation { name, family, layout: Plain }
}

const fn message(name: &'static str, family: Family) -> Operation {
    Operation { name, family, layout: Message }
}

/// The operations by their codes.
const OPERATIONS: &[(u8, Operation)] = &[
    (0, operation("nop", Other)),
    (6, operation("poll_add", Readiness)),
    (7, operation("poll_remove", Register)),
    (9, message("sendmsg", Send)),
    (10, message("recvmsg", Receive)),
    (11, operation("timeout", Sleep)),
    (13, operation("accept", Accept)),
    (14, CANCEL),
    (19, operation("close", Close)),
    (26, operation("send", Send)),
    (27, operation("recv", Receive)),
];

/// The operation that is about another operation, not about a descriptor.
pub const CANCEL: Operation = operation("async_cancel", Other);

impl Operation {
    pub fn of(code: u8) -> Self {
        let found = OPERATIONS.iter().find(|(other, _)| *other == code);
        let unknown = operation("another operation", Other);
        found.map_or(unknown, |(_, operation)| *operation)
    }

    #[cfg(any(test, feature = "script"))]
    pub fn called(name: &str) -> Self {
        let mut all = OPERATIONS.iter().map(|(_, operation)| *operation);
        let found = all.find(|operation| operation.name == name);
        found.unwrap_or_else(|| panic!("no operation is called {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_the_kernels_and_is_found() {
        for pair in CALLS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{}", pair[1].name);
        }
        for row in CALLS {
            assert_eq!(of(row.name).general, row.general);
        }
        #[cfg(target_arch = "x86_64")]
        for name in CALLS.iter().map(|row| &row.name).chain(QUIET) {
            assert!(name.parse::<syscalls::Sysno>().is_ok(), "{name}");
        }
        assert_eq!(of("ptrace").arguments, [Rest]);
    }
}
