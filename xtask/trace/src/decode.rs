//! A system call as a person reads it: arguments by their meaning, descriptors
//! by their role, results and errors by name.

use std::time::Duration;

use nix::unistd::Pid;

use super::event::{Call, Memory, Outcome};
use super::names;
use super::ring;
use super::roles::{Role, Roles, epoll_data};
use super::values::{
    address, data, length, milliseconds, pollfds, signals_read, timespec,
    timeval,
};

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
        "io_uring_setup" => ring::set_up(first, memory.of(1)),
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

fn lossy(text: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(text))
}

fn list(roles: &[Role]) -> String {
    let names: Vec<_> = roles.iter().map(Role::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {

    use crate::tape::{Bytes, Tape, epoll_event, pollfd, siginfo, timespec};

    const NONE: Bytes<'_> = &[];

    /// A call's name, arguments and result; memory that goes in, and that comes
    /// out; the text.
    type Row<'a> = (&'static str, [u64; 4], i64, Bytes<'a>, Bytes<'a>, &'a str);

    fn error(errno: i32) -> i64 {
        -i64::from(errno)
    }

    #[test]
    fn calls_read_as_a_person_wants_them() {
        let nonblock = libc::SOCK_NONBLOCK as u64;
        let dont_wait = libc::MSG_DONTWAIT as u64;
        let set_flags = libc::F_SETFL as u64;
        let wait = libc::FUTEX_WAIT as u64;
        let level = libc::SOL_SOCKET as u64;
        let reuse = libc::SO_REUSEADDR as u64;
        let minute = timespec(60, 0);
        let address = [2, 0, 0x1c, 0xd3, 127, 0, 0, 1];
        let address = [&address[..], &[0; 8]].concat();
        let address: Bytes<'_> = &[(1, &address)];
        let stop = (1u64 << 14 | 1 << 1).to_ne_bytes();
        let long = [b'x'; 40];
        #[rustfmt::skip]
        let rows: [Row<'_>; 24] = [
            ("accept4", [3, 0, 0, nonblock], 8, NONE, NONE,
                "accept4(listener, SOCK_NONBLOCK) = client 2"),
            ("accept4", [3, 0, 0, 0], error(libc::EAGAIN), NONE, NONE,
                "accept4(listener) = EAGAIN, nothing there"),
            ("accept4", [3, 0, 0, 0], -512, NONE, NONE,
                "accept4(listener) = interrupted by a signal"),
            ("recvfrom", [4, 0, 16_384, 0], 6, NONE, &[(1, b"PING\r\n")],
                r#"recvfrom(client 1, 16384) = 6 "PING\r\n""#),
            ("recvfrom", [4, 0, 16_384, dont_wait], 0, NONE, NONE,
                "recvfrom(client 1, 16384, MSG_DONTWAIT) = 0, end of file"),
            ("read", [4, 0, 40, 0], 40, NONE, &[(1, &long)],
                r#"read(client 1, 40) = 40 "xxxxxxxxxxxxxxxxxxxxxxxx"…"#),
            ("recvfrom", [4, 0, 9, 0], error(libc::ECONNRESET), NONE, NONE,
                "recvfrom(client 1, 9) = ECONNRESET, connection reset by peer"),
            ("sendto", [4, 0, 7, 0], 7, &[(1, b"+PONG\r\n")], NONE,
                r#"sendto(client 1, "+PONG\r\n") = 7"#),
            ("bind", [3, 0, 16, 0], 0, address, NONE,
                "bind(listener, 127.0.0.1:7379) = 0"),
            ("getsockname", [3, 0, 0, 0], 0, NONE, address,
                "getsockname(listener) = 127.0.0.1:7379"),
            ("setsockopt", [3, level, reuse, 0], 0, NONE, NONE,
                "setsockopt(listener, SO_REUSEADDR) = 0"),
            ("fcntl", [4, set_flags, 0o4000, 0], 0, NONE, NONE,
                "fcntl(client 1, F_SETFL, O_NONBLOCK) = 0"),
            ("fcntl", [4, 10, 34, 0], 0, NONE, NONE,
                "fcntl(client 1, F_SETSIG, SIGRTMIN) = 0"),
            ("shutdown", [4, 1, 0, 0], 0, NONE, NONE,
                "shutdown(client 1, SHUT_WR) = 0"),
            ("epoll_wait", [5, 0, 64, u64::MAX], error(libc::EINTR), NONE, NONE,
                "epoll_wait(epoll) = EINTR, interrupted system call"),
            ("epoll_wait", [5, 0, 64, 500], 0, NONE, NONE,
                "epoll_wait(epoll; at most 500 ms) = 0, time is up"),
            ("signalfd4", [0, 0, 8, 0], 9, &[(1, &stop)], NONE,
                "signalfd4(SIGINT SIGTERM) = signals 2"),
            ("rt_sigtimedwait", [0, 0, 0, 8], 15, &[(0, &stop), (2, &minute)],
                NONE,
                "rt_sigtimedwait(SIGINT SIGTERM; at most 60.0 s) = SIGTERM"),
            ("futex", [0, wait, 0, 0], 0, NONE, NONE, "futex(wait) = 0"),
            ("kill", [12, 15, 0, 0], 0, NONE, NONE, "kill(12, SIGTERM) = 0"),
            ("nanosleep", [0, 0, 0, 0], 0, &[(0, &minute)], NONE,
                "nanosleep(60.0 s) = 0"),
            ("openat", [0, 0, 0, 0], 9, &[(1, b"/dev/null")], NONE,
                r#"openat("/dev/null") = descriptor 9"#),
            ("close", [4, 0, 0, 0], 0, NONE, NONE, "close(client 1) = 0"),
            ("io_uring_enter", [7, 0, 1, 1], 0, NONE, NONE,
                "io_uring_enter(ring) = 0"),
        ];
        for (name, arguments, result, entering, leaving, expected) in rows {
            let tape = Tape::serving();
            let tape =
                tape.call(1.0, 1.1, name, arguments, result, entering, leaving);
            assert_eq!(tape.last_call(), expected);
        }
    }

    #[test]
    fn a_ring_has_the_flags_that_it_is_set_up_with() {
        let call = Tape::serving().deferring().last_call();
        let flags = "IORING_SETUP_SINGLE_ISSUER|IORING_SETUP_DEFER_TASKRUN";
        assert_eq!(call, format!("io_uring_setup(8, {flags}) = ring 2"));
    }

    #[test]
    fn waits_name_who_is_asked_and_who_is_ready() {
        let edge = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let event = epoll_event(edge, 77);
        let asked = [pollfd(3, 1, 0), pollfd(-1, 0, 0), pollfd(4, 1, 0)];
        let found = [pollfd(3, 1, 0), pollfd(-1, 0, 0), pollfd(4, 1, 1)];
        // Descriptors 3 and 4; then 4 alone.
        let sets = [0b1_1000u64.to_ne_bytes(), 0b1_0000u64.to_ne_bytes()];
        let infos = siginfo(34, 1, 4);
        let modify = libc::EPOLL_CTL_MOD as u64;
        let forever = u64::MAX;
        #[rustfmt::skip]
        let rows: [Row<'_>; 5] = [
            ("epoll_wait", [5, 0, 64, forever], 1, NONE, &[(1, &event)],
                "epoll_wait(epoll) = 1: client 1 EPOLLIN|EPOLLET"),
            ("epoll_ctl", [5, modify, 4, 0], 0, &[(3, &event)], NONE,
                "epoll_ctl(epoll, change client 1, EPOLLIN|EPOLLET) = 0"),
            ("poll", [0, 3, 0, 0], 1, &[(0, &asked.concat())],
                &[(0, &found.concat())],
                "poll(listener, client 1; without waiting) = 1: \
                client 1 POLLIN"),
            ("pselect6", [5, 0, 0, 0], 1, &[(1, &sets[0])], &[(1, &sets[1])],
                "pselect6(listener, client 1) = 1: client 1 ready"),
            ("read", [6, 0, 128, 0], 128, NONE, &[(1, &infos)],
                "read(signals, 128) = 128, SIGRTMIN"),
        ];
        for (name, arguments, result, entering, leaving, expected) in rows {
            let tape = Tape::serving();
            let tape =
                tape.call(1.0, 1.1, name, arguments, result, entering, leaving);
            assert_eq!(tape.last_call(), expected);
        }
    }
}
