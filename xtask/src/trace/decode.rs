//! A system call as a person reads it: arguments by their meaning, descriptors
//! by their role, results and errors by name.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::unistd::Pid;

use super::event::{Call, Memory, Outcome, Signal};
use super::names;
use super::roles::{Role, Roles, epoll_data};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Accept,
    Receive,
    Send,
    /// Waits until a descriptor is ready, or asks whether one is.
    Readiness,
    /// Waits for a signal.
    Signals,
    /// Hands operations over and waits for completions.
    Ring,
    /// Lets time pass.
    Sleep,
    /// Waits for another thread, or wakes it.
    Thread,
    /// Makes a process or a thread, waits for its end, or ends.
    Process,
    /// Says which descriptors to watch, and how.
    Register,
    Close,
    Other,
}

/// What a call of that name is for.
pub fn family(name: &str) -> Family {
    match name {
        "accept" | "accept4" => Family::Accept,
        "read" | "readv" | "pread64" | "preadv" | "recvfrom" | "recvmsg"
        | "recvmmsg" => Family::Receive,
        "write" | "writev" | "pwrite64" | "pwritev" | "sendto" | "sendmsg"
        | "sendmmsg" => Family::Send,
        "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait"
        | "epoll_pwait" | "epoll_pwait2" => Family::Readiness,
        "rt_sigtimedwait" | "rt_sigsuspend" | "pause" => Family::Signals,
        "io_uring_enter" => Family::Ring,
        "nanosleep" | "clock_nanosleep" => Family::Sleep,
        "futex" => Family::Thread,
        "fork" | "vfork" | "clone" | "clone3" | "wait4" | "waitid" | "exit"
        | "exit_group" => Family::Process,
        "epoll_ctl" | "fcntl" => Family::Register,
        "close" | "close_range" | "shutdown" => Family::Close,
        _ => Family::Other,
    }
}

/// What a call is about, besides what it says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub text: String,
    /// Descriptors that an answer names, or a question.
    pub roles: Vec<Role>,
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self { text, roles: Vec::new() }
    }
}

/// One process's view of its descriptors.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub roles: &'a Roles,
    pub pid: Pid,
}

/// As much of a message as is shown, in bytes.
const SHOWN: usize = 24;

impl View<'_> {
    pub fn of(&self, fd: u64) -> Role {
        self.roles.of(self.pid, fd as i32)
    }

    /// A call's arguments, and the descriptors among them.
    pub fn arguments(&self, call: &Call) -> Told {
        let [first, second, third, fourth, ..] = call.arguments;
        let memory = &call.memory;
        let fd = self.of(first);
        let text = match call.name {
            "accept4" if fourth & nonblock() != 0 => {
                format!("{fd}, SOCK_NONBLOCK")
            }
            "recvfrom" => format!("{fd}, {third}{}", dont_wait(fourth)),
            "read" | "pread64" | "getdents64" => format!("{fd}, {third}"),
            "sendto" => {
                format!(
                    "{fd}, {}{}",
                    data(memory.of(1), third),
                    dont_wait(fourth)
                )
            }
            "write" | "pwrite64" if matches!(fd, Role::Event(_)) => {
                format!("{fd}")
            }
            "write" | "pwrite64" => {
                format!("{fd}, {}", data(memory.of(1), third))
            }
            "writev" | "sendmsg" => {
                format!(
                    "{fd}, {}",
                    data(memory.of(1), memory.of(1).len() as u64)
                )
            }
            "socket" => socket(first, second),
            "bind" | "connect" => format!("{fd}, {}", address(memory.of(1))),
            "listen" => format!("{fd}, {second}"),
            "setsockopt" | "getsockopt" => {
                format!("{fd}, {}", names::socket_option(second, third))
            }
            "shutdown" => format!("{fd}, {}", shutdown(second)),
            "fcntl" => format!("{fd}, {}", fcntl(second, third)),
            "ioctl" => format!("{fd}, {}", names::ioctl_request(second)),
            "dup2" | "dup3" => format!("{fd}, {second}"),
            "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait"
            | "epoll_pwait" | "epoll_pwait2" => return self.question(call),
            "epoll_ctl" => return self.registration(call),
            "io_uring_enter" => return vec![fd].into(),
            "open" | "execve" => lossy(memory.of(0)),
            "openat" => lossy(memory.of(1)),
            name if of_no_descriptor(name) => free(call),
            name if of_a_descriptor(name) => format!("{fd}"),
            _ => return "…".to_owned().into(),
        };
        let about = !of_no_descriptor(call.name) && !opens(call.name);
        Told { text, roles: if about { vec![fd] } else { vec![] } }
    }

    /// What a call waits for, and how long.
    fn question(&self, call: &Call) -> Told {
        let [first, _, third, fourth, ..] = call.arguments;
        let memory = &call.memory;
        let (roles, patience) = match call.name {
            "poll" => (self.polled(memory.of(0)), milliseconds(third)),
            "ppoll" => (self.polled(memory.of(0)), timespec(memory.of(2))),
            "select" => (self.in_sets(memory, first), timeval(memory.of(4))),
            "pselect6" => (self.in_sets(memory, first), timespec(memory.of(4))),
            "epoll_pwait2" => (vec![self.of(first)], timespec(memory.of(3))),
            _ => (vec![self.of(first)], milliseconds(fourth)),
        };
        let mut text = list(&roles);
        if let Some(patience) = patience {
            let patience = match patience {
                Duration::ZERO => "without waiting".to_owned(),
                patience => format!("at most {}", length(patience)),
            };
            text += if text.is_empty() { "" } else { "; " };
            text += &patience;
        }
        Told { text, roles }
    }

    fn registration(&self, call: &Call) -> Told {
        let [epoll, operation, fd, ..] = call.arguments;
        let roles = vec![self.of(epoll), self.of(fd)];
        let event = call.memory.of(3);
        let events = event.get(..4).and_then(|bits| bits.try_into().ok());
        let events =
            names::epoll_events(events.map_or(0, u32::from_ne_bytes).into());
        let text = match operation as i32 {
            libc::EPOLL_CTL_ADD => {
                format!("{}, add {}, {events}", roles[0], roles[1])
            }
            libc::EPOLL_CTL_MOD => {
                format!("{}, change {}, {events}", roles[0], roles[1])
            }
            _ => format!("{}, remove {}", roles[0], roles[1]),
        };
        Told { text, roles }
    }

    fn polled(&self, list: &[u8]) -> Vec<Role> {
        let polled = pollfds(list).filter(|(fd, _)| *fd >= 0);
        polled.map(|(fd, _)| self.roles.of(self.pid, fd)).collect()
    }

    /// The descriptors in the sets of select(2), each once.
    fn in_sets(&self, sets: &Memory, count: u64) -> Vec<Role> {
        let is_in = |set: &[u8], fd: u64| {
            set.get((fd / 8) as usize)
                .is_some_and(|bits| bits >> (fd % 8) & 1 == 1)
        };
        let fds =
            (0..count).filter(|fd| (1..=3).any(|set| is_in(sets.of(set), *fd)));
        fds.map(|fd| self.of(fd)).collect()
    }

    /// What a call has brought, and the descriptors that this names.
    pub fn outcome(&self, call: &Call, outcome: &Outcome) -> Told {
        let (result, memory) = (outcome.result, &outcome.memory);
        if result < 0 {
            return names::errno(result).into();
        }
        let count = result as u64;
        let fd = self.of(call.arguments[0]);
        match call.name {
            "accept" | "accept4" | "socket" | "epoll_create1" | "eventfd2"
            | "signalfd4" | "timerfd_create" | "io_uring_setup" | "dup"
            | "dup2" | "dup3" => vec![self.of(count)].into(),
            "open" | "openat" => format!("descriptor {count}").into(),
            "read" if matches!(fd, Role::Signals(_)) => {
                format!("{count}, {}", signals_read(memory.of(1))).into()
            }
            "read" if matches!(fd, Role::Event(_)) => "8".to_owned().into(),
            "read" | "pread64" | "recvfrom" | "recvmsg" | "readv" => {
                received(&fd, memory.of(1), count).into()
            }
            "getsockname" | "getpeername" => address(memory.of(1)).into(),
            "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait"
            | "epoll_pwait" | "epoll_pwait2" => {
                self.answer(call, memory, count)
            }
            "rt_sigtimedwait" => names::signal(result as i32).into(),
            "fork" | "vfork" => format!("process {count}").into(),
            _ => count.to_string().into(),
        }
    }

    /// Which descriptors are ready.
    fn answer(&self, call: &Call, memory: &Memory, count: u64) -> Told {
        if count == 0 {
            return "0, time is up".to_owned().into();
        }
        let first = call.arguments[0];
        let ready: Vec<(Role, String)> = match call.name {
            "poll" | "ppoll" => pollfds(memory.of(0))
                .filter(|(_, events)| events >> 16 != 0)
                .map(|(fd, events)| {
                    let role = self.roles.of(self.pid, fd);
                    (role, names::poll_events((events >> 16).into()))
                })
                .collect(),
            "select" | "pselect6" => self
                .in_sets(memory, first)
                .into_iter()
                .map(|role| (role, "ready".to_owned()))
                .collect(),
            _ => self.epoll_events(first as i32, memory.of(1)),
        };
        let texts: Vec<_> = ready
            .iter()
            .map(|(role, events)| format!("{role} {events}"))
            .collect();
        let text = format!("{count}: {}", texts.join(", "));
        Told { text, roles: ready.into_iter().map(|(role, _)| role).collect() }
    }

    fn epoll_events(&self, epoll: i32, events: &[u8]) -> Vec<(Role, String)> {
        let size = size_of::<libc::epoll_event>();
        let events = events.chunks_exact(size).filter_map(|event| {
            let bits = u32::from_ne_bytes(event.get(..4)?.try_into().ok()?);
            let role = self.roles.watched(self.pid, epoll, epoll_data(event)?);
            let role = role.unwrap_or(Role::Unknown(-1));
            Some((role, names::epoll_events(bits.into())))
        });
        events.collect()
    }
}

impl From<Vec<Role>> for Told {
    fn from(roles: Vec<Role>) -> Self {
        Self { text: list(&roles), roles }
    }
}

/// Calls whose result is a descriptor, and whose arguments have none.
fn opens(name: &str) -> bool {
    matches!(name, "socket" | "open" | "openat" | "execve")
}

fn of_a_descriptor(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept4"
            | "close"
            | "dup"
            | "fstat"
            | "getpeername"
            | "getsockname"
            | "io_uring_register"
            | "lseek"
            | "readv"
            | "recvmsg"
            | "timerfd_settime"
    )
}

fn of_no_descriptor(name: &str) -> bool {
    matches!(
        name,
        "clone"
            | "clone3"
            | "clock_nanosleep"
            | "epoll_create1"
            | "eventfd2"
            | "exit"
            | "exit_group"
            | "fork"
            | "futex"
            | "getpid"
            | "gettid"
            | "io_uring_setup"
            | "kill"
            | "nanosleep"
            | "rt_sigprocmask"
            | "rt_sigqueueinfo"
            | "rt_sigreturn"
            | "rt_sigtimedwait"
            | "sched_yield"
            | "signalfd4"
            | "tgkill"
            | "timerfd_create"
            | "vfork"
            | "wait4"
    )
}

/// The arguments of calls that are about no descriptor.
fn free(call: &Call) -> String {
    let [first, second, third, ..] = call.arguments;
    let memory = &call.memory;
    match call.name {
        "exit" | "exit_group" => first.to_string(),
        "futex" => futex(second),
        "kill" => format!("{}, {}", first as i32, names::signal(second as i32)),
        "tgkill" => format!("{second}, {}", names::signal(third as i32)),
        "rt_sigqueueinfo" => names::signal(second as i32),
        "nanosleep" => timespec(memory.of(0)).map_or_else(String::new, length),
        "clock_nanosleep" => {
            timespec(memory.of(2)).map_or_else(String::new, length)
        }
        "rt_sigprocmask" => {
            let how = match first as i32 {
                libc::SIG_BLOCK => "block",
                libc::SIG_UNBLOCK => "unblock",
                _ => "set",
            };
            match memory.of(1) {
                [] => String::new(),
                set => format!("{how} {}", names::signals(set)),
            }
        }
        "signalfd4" => names::signals(memory.of(1)),
        "rt_sigtimedwait" => {
            let mut text = names::signals(memory.of(0));
            match timespec(memory.of(2)) {
                Some(Duration::ZERO) => text += "; without waiting",
                Some(time) => text += &format!("; at most {}", length(time)),
                None => {}
            }
            text
        }
        "wait4" => match first as i32 {
            -1 => "any child".to_owned(),
            pid => format!("process {pid}"),
        },
        _ => String::new(),
    }
}

fn futex(operation: u64) -> String {
    const WAITS: [i32; 5] = [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_LOCK_PI,
        libc::FUTEX_LOCK_PI2,
        libc::FUTEX_WAIT_REQUEUE_PI,
    ];
    let flags = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    let operation = operation as i32 & !flags;
    if WAITS.contains(&operation) { "wait" } else { "wake" }.to_owned()
}

fn socket(domain: u64, kind: u64) -> String {
    let domain = match domain as i32 {
        libc::AF_INET => "AF_INET",
        libc::AF_INET6 => "AF_INET6",
        libc::AF_UNIX => "AF_UNIX",
        _ => "another family",
    };
    let name = match (kind & 0xf) as i32 {
        libc::SOCK_STREAM => "SOCK_STREAM",
        libc::SOCK_DGRAM => "SOCK_DGRAM",
        _ => "another type",
    };
    let flag = if kind & nonblock() == 0 { "" } else { "|SOCK_NONBLOCK" };
    format!("{domain}, {name}{flag}")
}

fn shutdown(how: u64) -> &'static str {
    match how as i32 {
        libc::SHUT_RD => "SHUT_RD",
        libc::SHUT_WR => "SHUT_WR",
        _ => "SHUT_RDWR",
    }
}

fn fcntl(command: u64, argument: u64) -> String {
    let name = names::fcntl_command(command);
    const F_SETFL: u64 = libc::F_SETFL as u64;
    match command {
        F_SETFL => format!("{name}, {}", names::file_flags(argument)),
        names::F_SETSIG => {
            format!("{name}, {}", names::signal(argument as i32))
        }
        _ => name,
    }
}

const fn nonblock() -> u64 {
    libc::SOCK_NONBLOCK as u64
}

fn dont_wait(flags: u64) -> &'static str {
    let waits = flags & libc::MSG_DONTWAIT as u64 == 0;
    if waits { "" } else { ", MSG_DONTWAIT" }
}

fn received(from: &Role, bytes: &[u8], count: u64) -> String {
    match (from, count) {
        (Role::Client(_), 0) => "0, end of file".to_owned(),
        (_, 0) => "0".to_owned(),
        _ => format!("{count} {}", data(bytes, count)),
    }
}

/// Bytes in quotes, cut where it gets long.
pub fn data(bytes: &[u8], count: u64) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let more = if count > shown.len() as u64 { "…" } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}

/// What signalfd(2) tells, a struct for each signal.
fn signals_read(bytes: &[u8]) -> String {
    let texts: Vec<_> =
        signals_in(bytes).iter().map(Signal::to_string).collect();
    texts.join(", ")
}

/// The signals in what was read from a signalfd.
pub fn signals_in(bytes: &[u8]) -> Vec<Signal> {
    let word = |bytes: &[u8], at: usize| -> i32 {
        let bytes = bytes.get(at..at + 4).and_then(|it| it.try_into().ok());
        bytes.map_or(0, i32::from_ne_bytes)
    };
    let infos = bytes.chunks_exact(size_of::<libc::signalfd_siginfo>());
    let signals = infos.map(|info| {
        let (number, code) = (word(info, 0), word(info, 8));
        Signal::new(number, code, word(info, 20), word(info, 12))
    });
    signals.collect()
}

/// Descriptors and events (those asked for below, those found above).
fn pollfds(list: &[u8]) -> impl Iterator<Item = (i32, u32)> {
    list.chunks_exact(8).map(|entry| {
        let fd = i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let asked = u16::from_ne_bytes([entry[4], entry[5]]);
        let found = u16::from_ne_bytes([entry[6], entry[7]]);
        (fd, u32::from(found) << 16 | u32::from(asked))
    })
}

fn milliseconds(patience: u64) -> Option<Duration> {
    let patience = u64::try_from(patience as i32).ok()?;
    Some(Duration::from_millis(patience))
}

fn two_words(bytes: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    Some((word(0)?, word(8)?))
}

fn timespec(bytes: &[u8]) -> Option<Duration> {
    let (seconds, nanoseconds) = two_words(bytes)?;
    Some(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

fn timeval(bytes: &[u8]) -> Option<Duration> {
    let (seconds, microseconds) = two_words(bytes)?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(microseconds))
}

/// A time for people: three digits and a unit.
pub fn length(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = match value {
        v if v >= 99.95 || unit == "ns" => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

/// A socket's address, `127.0.0.1:7379`.
fn address(bytes: &[u8]) -> String {
    let Some([family, port]) = bytes.first_chunk::<4>().map(|b| {
        [u16::from_ne_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]])]
    }) else {
        return "…".to_owned();
    };
    let address: Option<SocketAddr> = match i32::from(family) {
        libc::AF_INET => bytes.get(4..8).and_then(|ip| {
            let ip: [u8; 4] = ip.try_into().ok()?;
            Some((Ipv4Addr::from(ip), port).into())
        }),
        libc::AF_INET6 => bytes.get(8..24).and_then(|ip| {
            let ip: [u8; 16] = ip.try_into().ok()?;
            Some((Ipv6Addr::from(ip), port).into())
        }),
        _ => None,
    };
    address.map_or("…".to_owned(), |address| address.to_string())
}

fn lossy(text: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(text))
}

fn list(roles: &[Role]) -> String {
    let names: Vec<_> = roles.iter().map(Role::to_string).collect();
    names.join(", ")
}
