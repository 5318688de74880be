//! Names for numbers of the kernel's interface.

use nix::errno::Errno;

/// Lists bits or values with the names that libc has for them.
macro_rules! named {
    ($($name:ident)*) => {
        &[$((stringify!($name), libc::$name as u32)),*]
    };
}

pub type Names = &'static [(&'static str, u32)];

pub const POLL: Names =
    named![POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLRDHUP];
pub const EPOLL: Names = named![
    EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLEXCLUSIVE
    EPOLLONESHOT EPOLLET
];
pub const DOMAINS: Names = named![AF_INET AF_INET6 AF_UNIX];
pub const ACCEPT: Names = named![SOCK_CLOEXEC SOCK_NONBLOCK];
const TYPES: Names = named![SOCK_STREAM SOCK_DGRAM];
pub const DIRECTIONS: Names = named![SHUT_RD SHUT_WR SHUT_RDWR];
pub const FILE: Names = named![O_NONBLOCK O_ASYNC];
pub const SOCKET_OPTIONS: Names = named![
    SO_REUSEADDR SO_ERROR SO_KEEPALIVE SO_OOBINLINE SO_LINGER SO_REUSEPORT
    SO_RCVTIMEO SO_SNDTIMEO SO_INCOMING_CPU SO_ATTACH_REUSEPORT_CBPF
    SO_SNDBUF SO_RCVBUF
];
const STATUS_COMMANDS: Names = named![
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_SETOWN F_GETOWN
    F_DUPFD_CLOEXEC
];

/// Flags of io_uring_setup(2), which libc does not define.
pub const RING: Names = &[
    ("IORING_SETUP_IOPOLL", 1 << 0),
    ("IORING_SETUP_SQPOLL", 1 << 1),
    ("IORING_SETUP_SQ_AFF", 1 << 2),
    ("IORING_SETUP_CQSIZE", 1 << 3),
    ("IORING_SETUP_CLAMP", 1 << 4),
    ("IORING_SETUP_ATTACH_WQ", 1 << 5),
    ("IORING_SETUP_R_DISABLED", 1 << 6),
    ("IORING_SETUP_SUBMIT_ALL", 1 << 7),
    ("IORING_SETUP_COOP_TASKRUN", 1 << 8),
    ("IORING_SETUP_TASKRUN_FLAG", 1 << 9),
    ("IORING_SETUP_SQE128", 1 << 10),
    ("IORING_SETUP_CQE32", 1 << 11),
    ("IORING_SETUP_SINGLE_ISSUER", 1 << 12),
    ("IORING_SETUP_DEFER_TASKRUN", IORING_SETUP_DEFER_TASKRUN),
];
pub const IORING_SETUP_DEFER_TASKRUN: u32 = 1 << 13;

/// Commands that libc does not define, see fcntl(2).
const F_SETOWN_EX: u64 = 15;
pub const F_SETSIG: u64 = 10;

/// Requests of ioctl(2) about sockets, see tcp(7).
pub const REQUESTS: Names = &[
    ("SIOCOUTQ", libc::TIOCOUTQ as u32),
    ("FIONREAD", libc::FIONREAD as u32),
    ("FIONBIO", libc::FIONBIO as u32),
];

/// Formats the bits of a set: `EPOLLIN|EPOLLET`; 0 if none has a name.
pub fn bits(names: Names, value: u64) -> String {
    let set = names.iter().filter(|(_, bit)| value & u64::from(*bit) != 0);
    let set: Vec<_> = set.map(|(name, _)| *name).collect();
    if set.is_empty() { "0".to_owned() } else { set.join("|") }
}

/// Returns the name of a value, or its number.
pub fn value(names: Names, value: u64) -> String {
    let name = names.iter().find(|(_, number)| u64::from(*number) == value);
    name.map_or_else(|| value.to_string(), |(name, _)| (*name).to_owned())
}

/// Returns the value of a name.
#[cfg(any(test, feature = "script"))]
pub fn number(names: Names, name: &str) -> Option<u32> {
    let named = names.iter().find(|(other, _)| *other == name);
    named.map(|(_, number)| *number)
}

pub fn socket_type(kind: u64) -> String {
    let nonblock = kind & libc::SOCK_NONBLOCK as u64 != 0;
    let flag = if nonblock { "|SOCK_NONBLOCK" } else { "" };
    value(TYPES, kind & 0xf) + flag
}

pub fn fcntl_command(command: u64) -> String {
    match command {
        F_SETOWN_EX => "F_SETOWN_EX".to_owned(),
        F_SETSIG => "F_SETSIG".to_owned(),
        command => value(STATUS_COMMANDS, command),
    }
}

pub fn socket_option(level: i32, option: i32) -> String {
    match (level, option) {
        (libc::SOL_SOCKET, _) => value(SOCKET_OPTIONS, option as u64),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => "TCP_NODELAY".to_owned(),
        (libc::IPPROTO_TCP, libc::TCP_INFO) => "TCP_INFO".to_owned(),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => "IPV6_V6ONLY".to_owned(),
        (level, option) => format!("{level}, {option}"),
    }
}

/// Returns a signal's name; real-time signals count from SIGRTMIN, as in glibc.
pub fn signal(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => match number - libc::SIGRTMIN() {
            0 => "SIGRTMIN".to_owned(),
            above => format!("SIGRTMIN{above:+}"),
        },
    }
}

/// Formats the signals of a kernel's sigset_t.
pub fn signals(set: &[u8]) -> String {
    let Some(set) = set.get(..8).and_then(|set| set.try_into().ok()) else {
        return "?".to_owned();
    };
    let set = u64::from_ne_bytes(set);
    // When all signals are requested, glibc omits some that it uses itself.
    if set.count_ones() > 32 {
        return "all signals".to_owned();
    }
    let numbers = (1..=64).filter(|number| set & (1 << (number - 1)) != 0);
    let names: Vec<_> = numbers.map(signal).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// Returns an error's name and meaning: `EAGAIN, nothing there`.
pub fn errno(result: i64) -> String {
    let name = errno_name(result);
    match to_errno(result) {
        Errno::UnknownErrno => name,
        Errno::EAGAIN => format!("{name}, nothing there"),
        errno => format!("{name}, {}", errno.desc().to_lowercase()),
    }
}

/// Returns an error's name: `EAGAIN`.
pub fn errno_name(result: i64) -> String {
    match to_errno(result) {
        // Restart codes of the kernel, which programs do not see.
        _ if (-516..=-512).contains(&result) => {
            "interrupted by a signal".to_owned()
        }
        Errno::UnknownErrno => format!("error {}", -result),
        errno => format!("{errno:?}"),
    }
}

fn to_errno(result: i64) -> Errno {
    Errno::from_raw(i32::try_from(-result).unwrap_or(0))
}
