//! Decodes a system call's arguments and result: descriptors by their role,
//! flags and options by their names, and the data.

use std::time::Duration;

use nix::unistd::Pid;

use super::call::{Answer, Argument, Data, Events, Registration};
use super::calls::{ArgumentKind, CallSpec, Effect, Family, Layout, Operation};
use super::event::{Call, Memory, Outcome};
use super::passed::{self, passed};
use super::remote::u32_at;
use super::role::Role;
use super::roles::{Roles, epoll_data};
use super::values::{address, length, pollfds, signals_in, time};
use super::{names, ring};

/// The smaller units of a timespec and of a timeval.
const NANOSECOND: Duration = Duration::from_nanos(1);
const MICROSECOND: Duration = Duration::from_micros(1);

/// One process's view of its descriptors.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub roles: &'a Roles,
    pub pid: Pid,
}

impl View<'_> {
    fn of(&self, fd: u64) -> Role {
        self.roles.of(self.pid, fd as i32)
    }

    /// Decodes the arguments of a call that begins.
    pub fn arguments(&self, spec: &CallSpec, call: &Call) -> Vec<Argument> {
        let kinds = spec.arguments.iter().enumerate();
        let about = self.of(call.arguments[0]);
        let passed = passed(call.memory.of(passed::PLACE));
        let passed =
            passed.map(|(fd, _)| Argument::Passed(self.roles.of(self.pid, fd)));
        kinds
            .flat_map(|(place, kind)| match kind {
                // The bytes written to an eventfd are not data.
                ArgumentKind::Data(_) if matches!(about, Role::Event(_)) => {
                    Vec::new()
                }
                ArgumentKind::PollFds => self.polled(call.memory.of(0)),
                ArgumentKind::Sets => {
                    let asked = self.in_sets(&call.memory, call.arguments[0]);
                    asked.into_iter().map(Argument::Descriptor).collect()
                }
                kind => Vec::from_iter(self.argument(*kind, place, call)),
            })
            .chain(passed)
            .collect()
    }

    fn argument(
        &self,
        kind: ArgumentKind,
        place: usize,
        call: &Call,
    ) -> Option<Argument> {
        let value = call.arguments[place];
        let next = call.arguments.get(place + 1).copied().unwrap_or(0);
        let bytes = call.memory.of(place as u8);
        Some(match kind {
            ArgumentKind::Fd => Argument::Descriptor(self.of(value)),
            ArgumentKind::Room => Argument::Room(value),
            ArgumentKind::AcceptFlags => Argument::AcceptFlags(value),
            ArgumentKind::MessageFlags => Argument::MessageFlags(value),
            ArgumentKind::Data(Layout::Plain) => {
                Argument::Data(Data { bytes: bytes.into(), count: next })
            }
            ArgumentKind::Data(_) => {
                let count = bytes.len() as u64;
                Argument::Data(Data { bytes: bytes.into(), count })
            }
            ArgumentKind::SocketOption => {
                Argument::SocketOption(value as i32, next as i32)
            }
            ArgumentKind::Control => self.registration(call),
            ArgumentKind::RingParameters => {
                Argument::RingFlags(ring::flags(bytes))
            }
            ArgumentKind::FutexOperation if waits(value) => Argument::FutexWait,
            ArgumentKind::Milliseconds => {
                let limit = u64::try_from(value as i32).ok()?;
                Argument::Patience(Duration::from_millis(limit))
            }
            ArgumentKind::Timespec => {
                Argument::Patience(time(bytes, NANOSECOND)?)
            }
            ArgumentKind::Timeval => {
                Argument::Patience(time(bytes, MICROSECOND)?)
            }
            kind => {
                let behind = call.memory.of(place as u8 + 1);
                Argument::Words(words(kind, (value, next), (bytes, behind))?)
            }
        })
    }

    fn registration(&self, call: &Call) -> Argument {
        let [_, operation, fd, ..] = call.arguments;
        Argument::Registration(Registration {
            operation: operation as i32,
            role: self.of(fd),
            events: u32_at(call.memory.of(3), 0),
        })
    }

    fn polled(&self, list: &[u8]) -> Vec<Argument> {
        let polled = pollfds(list).filter(|(fd, _)| *fd >= 0);
        let roles = polled.map(|(fd, _)| self.roles.of(self.pid, fd));
        roles.map(Argument::Descriptor).collect()
    }

    /// Returns the descriptors in the sets of select(2), each once.
    fn in_sets(&self, sets: &Memory, count: u64) -> Vec<Role> {
        let is_in = |set: &[u8], fd: u64| {
            set.get((fd / 8) as usize)
                .is_some_and(|bits| bits >> (fd % 8) & 1 == 1)
        };
        let fds =
            (0..count).filter(|fd| (1..=3).any(|set| is_in(sets.of(set), *fd)));
        fds.map(|fd| self.of(fd)).collect()
    }

    /// Decodes the result of a call that has succeeded.
    pub fn answer(
        &self,
        spec: &CallSpec,
        call: &Call,
        outcome: &Outcome,
    ) -> Answer {
        let count = outcome.result as u64;
        match spec.effect {
            _ if outcome.result < 0 => return Answer::Number,
            Effect::Opens(_)
            | Effect::OpensSocket
            | Effect::SetsUpRing
            | Effect::Duplicates
            | Effect::Replaces => return Answer::Descriptor(self.of(count)),
            Effect::OpensFile(_) => return Answer::File,
            _ => {}
        }
        let mut received = passed(outcome.memory.of(passed::PLACE));
        if let Some((fd, _)) = received.next() {
            return Answer::Descriptor(self.roles.of(self.pid, fd));
        }
        let first = call.arguments[0];
        let about = self.of(first);
        for (place, kind) in spec.arguments.iter().enumerate() {
            let bytes = outcome.memory.of(place as u8);
            return match (kind, &about) {
                (ArgumentKind::Buffer(_), Role::Event(_)) => Answer::Number,
                (ArgumentKind::Buffer(_), Role::Signals(_)) => {
                    Answer::Signals(signals_in(bytes))
                }
                (ArgumentKind::Buffer(_), _) => {
                    Answer::Data(Data { bytes: bytes.into(), count })
                }
                (ArgumentKind::AddressFilled, _) => {
                    Answer::Address(address(bytes))
                }
                (ArgumentKind::SignalInfo, _) => Answer::Signal,
                (ArgumentKind::PollFds, _) => {
                    Answer::Ready(self.polled_ready(bytes))
                }
                (ArgumentKind::Sets, _) => {
                    let ready = self.in_sets(&outcome.memory, first);
                    let ready = ready.into_iter().map(|it| (it, Events::Any));
                    Answer::Ready(ready.collect())
                }
                (ArgumentKind::EpollEvents, _) => {
                    Answer::Ready(self.epoll_events(first as i32, bytes))
                }
                _ => continue,
            };
        }
        Answer::Number
    }

    fn polled_ready(&self, list: &[u8]) -> Vec<(Role, Events)> {
        let ready = pollfds(list).filter(|(_, events)| events >> 16 != 0);
        let ready = ready.map(|(fd, events)| {
            (self.roles.of(self.pid, fd), Events::Poll(events >> 16))
        });
        ready.collect()
    }

    fn epoll_events(&self, epoll: i32, events: &[u8]) -> Vec<(Role, Events)> {
        let size = size_of::<libc::epoll_event>();
        let events = events.chunks_exact(size).filter_map(|event| {
            let role = self.roles.watched(self.pid, epoll, epoll_data(event)?);
            let role = role.unwrap_or(Role::Unknown(-1));
            Some((role, Events::Epoll(u32_at(event, 0))))
        });
        events.collect()
    }
}

/// Formats an argument that is only shown to people, from its value and the
/// next one's, and the memory of both. Returns None if there is nothing to
/// show.
fn words(
    kind: ArgumentKind,
    (value, next): (u64, u64),
    (bytes, behind): (&[u8], &[u8]),
) -> Option<String> {
    Some(match kind {
        ArgumentKind::Rest | ArgumentKind::Pair => "…".to_owned(),
        ArgumentKind::Address => address(bytes),
        ArgumentKind::Path => format!("\"{}\"", String::from_utf8_lossy(bytes)),
        ArgumentKind::Number => (value as i32).to_string(),
        ArgumentKind::SocketType => names::socket_type(value),
        ArgumentKind::Named(names) => names::value(names, value),
        ArgumentKind::Command => command(value, next),
        ArgumentKind::FutexOperation => "wake".to_owned(),
        ArgumentKind::Signal => names::signal(value as i32),
        ArgumentKind::SignalSet => names::signals(bytes),
        ArgumentKind::SignalMask if behind.is_empty() => return None,
        ArgumentKind::SignalMask => {
            let how = match value as i32 {
                libc::SIG_BLOCK => "block",
                libc::SIG_UNBLOCK => "unblock",
                _ => "set",
            };
            format!("{how} {}", names::signals(behind))
        }
        ArgumentKind::Child => match value as i32 {
            -1 => "any child".to_owned(),
            pid => format!("process {pid}"),
        },
        ArgumentKind::Pause => length(time(bytes, NANOSECOND)?),
        _ => return None,
    })
}

/// Returns whether an operation of futex(2) waits.
fn waits(operation: u64) -> bool {
    const WAITS: [i32; 5] = [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_LOCK_PI,
        libc::FUTEX_LOCK_PI2,
        libc::FUTEX_WAIT_REQUEUE_PI,
    ];
    let flags = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    WAITS.contains(&(operation as i32 & !flags))
}

fn command(command: u64, argument: u64) -> String {
    let name = names::fcntl_command(command);
    const F_SETFL: u64 = libc::F_SETFL as u64;
    match command {
        F_SETFL => {
            format!("{name}, {}", names::bits(names::FILE, argument))
        }
        names::F_SETSIG => {
            format!("{name}, {}", names::signal(argument as i32))
        }
        _ => name,
    }
}

/// Decodes the result of a ring operation, of which `header` bytes are not
/// data.
pub fn completed(
    operation: Operation,
    result: i32,
    header: u64,
    data: &[u8],
) -> Answer {
    let result = result.max(0).cast_unsigned();
    match operation.family {
        Family::Receive => Answer::Data(Data {
            bytes: data.into(),
            count: u64::from(result).saturating_sub(header),
        }),
        Family::Readiness => Answer::Events(Events::Poll(result)),
        _ => Answer::Number,
    }
}

#[cfg(test)]
mod tests {
    use crate::tape::{Bytes, Tape, epoll_event, pollfd};

    const NONE: Bytes<'_> = &[];

    /// A call's name, arguments and result; memory that the kernel reads, and
    /// that it fills; the text.
    type Row<'a> = (&'static str, [u64; 4], i64, Bytes<'a>, Bytes<'a>, &'a str);

    fn error(errno: i32) -> i64 {
        -i64::from(errno)
    }

    fn check(rows: &[Row<'_>]) {
        for (name, arguments, result, entering, leaving, expected) in rows {
            let tape = Tape::serving();
            let tape = tape.call(name, *arguments, *result, entering, leaving);
            assert_eq!(tape.last_call(), *expected);
        }
    }

    #[test]
    fn calls_read_as_a_person_wants_them() {
        let nonblock = libc::SOCK_NONBLOCK as u64;
        let dont_wait = libc::MSG_DONTWAIT as u64;
        let set_flags = libc::F_SETFL as u64;
        let wait = libc::FUTEX_WAIT as u64;
        let level = libc::SOL_SOCKET as u64;
        let reuse = libc::SO_REUSEADDR as u64;
        let minute = [60u64.to_ne_bytes(), [0; 8]].concat();
        let address = [2, 0, 0x1c, 0xd3, 127, 0, 0, 1];
        let address = [&address[..], &[0; 8]].concat();
        let address: Bytes<'_> = &[(1, &address)];
        let stop = (1u64 << 14 | 1 << 1).to_ne_bytes();
        let long = [b'x'; 40];
        let mut ring = [0; 120];
        ring[9] = 1 << 5;
        #[rustfmt::skip]
        check(&[
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
            ("io_uring_setup", [8, 0, 0, 0], 9, &[(1, &ring)], NONE,
                "io_uring_setup(8, IORING_SETUP_DEFER_TASKRUN) = ring 2"),
        ]);
    }

    #[test]
    fn waits_name_who_is_asked_and_who_is_ready() {
        let edge = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let event = epoll_event(edge, 77);
        let asked = [pollfd(3, 1, 0), pollfd(-1, 0, 0), pollfd(4, 1, 0)];
        let found = [pollfd(3, 1, 0), pollfd(-1, 0, 0), pollfd(4, 1, 1)];
        // Descriptors 3 and 4; then 4 alone.
        let sets = [0b1_1000u64.to_ne_bytes(), 0b1_0000u64.to_ne_bytes()];
        let mut infos = vec![0; size_of::<libc::signalfd_siginfo>()];
        infos[..4].copy_from_slice(&34i32.to_ne_bytes());
        let modify = libc::EPOLL_CTL_MOD as u64;
        #[rustfmt::skip]
        check(&[
            ("epoll_wait", [5, 0, 64, u64::MAX], 1, NONE, &[(1, &event)],
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
        ]);
    }
}
