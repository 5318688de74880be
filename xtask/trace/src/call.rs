//! A system call with its arguments and its result, decoded. Rules and figures
//! query it. The text for people is made here, too, and is never parsed.

use std::fmt;
use std::time::Duration;

use super::calls::{self, CANCEL, Family, Operation};
use super::event::Signal;
use super::names;
use super::role::Role;
use super::values::{data, length};

/// A system call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStep {
    pub name: &'static str,
    /// The common name of all calls that do the same.
    pub general: &'static str,
    pub family: Family,
    pub arguments: Vec<Argument>,
    /// The operations that io_uring_enter(2) submits.
    pub submitted: Vec<Handover>,
    /// The kernel's return value; an errno is negative. None if the call never
    /// returned.
    pub result: Option<i64>,
    pub answer: Answer,
}

/// An argument, or several that belong together.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    Descriptor(Role),
    Registration(Registration),
    /// The size of the buffer in bytes.
    Room(u64),
    Data(Data),
    /// Flags such as SOCK_NONBLOCK and SOCK_CLOEXEC.
    AcceptFlags(u64),
    /// Flags such as MSG_DONTWAIT.
    MessageFlags(u64),
    /// Flags such as IORING_SETUP_DEFER_TASKRUN.
    RingFlags(u32),
    /// Level and option.
    SocketOption(i32, i32),
    /// The operation of futex(2) waits; others wake.
    FutexWait,
    /// The timeout of the call, if it has one.
    Patience(Duration),
    /// A descriptor that is sent to another process.
    Passed(Role),
    /// Text that is only shown to people.
    Words(String),
}

/// An operation of epoll_ctl(2).
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// EPOLL_CTL_ADD, EPOLL_CTL_MOD, or EPOLL_CTL_DEL.
    pub operation: i32,
    pub role: Role,
    pub events: u32,
}

/// The first bytes of a message, and its length.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    pub bytes: Box<[u8]>,
    pub count: u64,
}

/// An operation that is submitted to a ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Handover {
    pub operation: Operation,
    pub role: Role,
    /// The flags of the system call of that name.
    pub flags: u32,
    pub data: Box<[u8]>,
}

/// The result of a call, besides the number that it returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Answer {
    #[default]
    Number,
    /// A new descriptor.
    Descriptor(Role),
    /// A descriptor of the file that the arguments name.
    File,
    Data(Data),
    /// The signals that were read from a signalfd(2).
    Signals(Vec<Signal>),
    /// The signal that has the returned number.
    Signal,
    Address(String),
    /// The ready descriptors; none after a timeout.
    Ready(Vec<(Role, Events)>),
    /// The events of the polled descriptor.
    Events(Events),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    Poll(u32),
    Epoll(u32),
    /// Readiness reported by select(2), which returns no event mask.
    Any,
}

impl Registration {
    /// Returns whether one of these flags is set.
    pub fn asks_for(&self, flags: i32) -> bool {
        self.events & flags.cast_unsigned() != 0
    }
}

impl CallStep {
    pub fn new(name: &'static str, arguments: Vec<Argument>) -> Self {
        let spec = calls::of(name);
        Self {
            name: if name.is_empty() { "unknown" } else { name },
            general: spec.general,
            family: spec.family,
            arguments,
            submitted: Vec::new(),
            result: None,
            answer: Answer::Number,
        }
    }

    /// Returns the descriptors that it was called with: one for most calls, all
    /// that are waited for in a call about many.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.arguments.iter().filter_map(|argument| match argument {
            Argument::Descriptor(role)
            | Argument::Registration(Registration { role, .. }) => Some(role),
            _ => None,
        })
    }

    /// Returns the descriptor that the call is about, if there is one.
    pub fn role(&self) -> Option<&Role> {
        self.roles().next()
    }

    /// Returns whether requests arrive at its descriptor.
    pub fn is_about_client(&self) -> bool {
        self.role().is_some_and(Role::carries_requests)
    }

    /// Returns the descriptors that are ready, or new.
    pub fn answers(&self) -> impl Iterator<Item = &Role> {
        let (one, many) = match &self.answer {
            Answer::Descriptor(role) => (Some(role), [].as_slice()),
            Answer::Ready(ready) => (None, ready.as_slice()),
            _ => (None, [].as_slice()),
        };
        one.into_iter().chain(many.iter().map(|(role, _)| role))
    }

    fn find<T>(&self, find: impl Fn(&Argument) -> Option<T>) -> Option<T> {
        self.arguments.iter().find_map(find)
    }

    pub fn registration(&self) -> Option<&Registration> {
        self.arguments.iter().find_map(|argument| match argument {
            Argument::Registration(registration) => Some(registration),
            _ => None,
        })
    }

    pub fn room(&self) -> Option<u64> {
        self.find(|argument| match argument {
            Argument::Room(room) => Some(*room),
            _ => None,
        })
    }

    pub fn patience(&self) -> Option<Duration> {
        self.find(|argument| match argument {
            Argument::Patience(patience) => Some(*patience),
            _ => None,
        })
    }

    /// Returns the flags of a call that accepts, or of a submitted operation
    /// that does.
    pub fn accept_flags(&self) -> Option<u64> {
        let accepts = |it: &&Handover| it.operation.family == Family::Accept;
        let handed = self.submitted.iter().rfind(accepts);
        if self.family != Family::Accept {
            return handed.map(|it| it.flags.into());
        }
        let flags = self.find(|argument| match argument {
            Argument::AcceptFlags(flags) => Some(*flags),
            _ => None,
        });
        Some(flags.unwrap_or(0))
    }

    /// Returns whether a transfer must not block (MSG_DONTWAIT).
    pub fn is_nonblocking(&self) -> bool {
        self.arguments.iter().any(|argument| match argument {
            Argument::MessageFlags(flags) => dont_wait(*flags),
            _ => false,
        })
    }

    /// Returns whether it sends a client's descriptor to another process.
    pub fn passes(&self) -> bool {
        self.arguments.iter().any(|argument| match argument {
            Argument::Passed(role) => role.carries_requests(),
            _ => false,
        })
    }

    /// Returns whether it is about this option of SOL_SOCKET.
    pub fn is_about_option(&self, option: i32) -> bool {
        let wanted = Argument::SocketOption(libc::SOL_SOCKET, option);
        self.arguments.contains(&wanted)
    }

    /// Returns whether it has failed with this errno.
    pub fn fails_with(&self, errno: i32) -> bool {
        self.result == Some(-i64::from(errno))
    }

    /// Returns the name of the error that it has failed with.
    pub fn error_name(&self) -> Option<String> {
        let result = self.result.filter(|result| *result < 0);
        result.map(names::errno_name)
    }

    /// Returns whether its result is `least` or more.
    pub fn returns_at_least(&self, least: i64) -> bool {
        self.result.is_some_and(|result| result >= least)
    }

    /// Formats the arguments except the timeout: `client 1, 4096`.
    pub fn about(&self) -> String {
        let waits = |it: &&Argument| matches!(it, Argument::Patience(_));
        let shown = self.arguments.iter().filter(|it| !waits(it));
        let shown = shown.map(Argument::to_string);
        listed(shown.filter(|text| !text.is_empty()))
    }

    /// Formats all arguments and the submitted operations:
    /// `epoll; at most 500 ms`.
    pub fn in_brackets(&self) -> String {
        let mut text = self.about();
        if let Some(patience) = self.patience() {
            text += if text.is_empty() { "" } else { "; " };
            text += &Argument::Patience(patience).to_string();
        }
        if !self.submitted.is_empty() {
            let handed = self.submitted.iter().map(Handover::to_string);
            text = format!("{text}: {}", listed(handed));
        }
        text
    }

    /// Formats the result: `6 "PING\r\n"`. Empty while the call lasts.
    pub fn outcome(&self) -> String {
        let Some(result) = self.result else { return String::new() };
        self.answer.in_words(result, self.role())
    }
}

impl Answer {
    /// Returns the number of bytes of data.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.count,
            _ => 0,
        }
    }

    /// Formats the result of a call or of an operation on a descriptor.
    pub fn in_words(&self, result: i64, role: Option<&Role>) -> String {
        let at_end = matches!(role, Some(Role::Client(_)));
        match self {
            _ if result < 0 => names::errno(result),
            Self::Number => result.to_string(),
            Self::Descriptor(role) => role.to_string(),
            Self::File => format!("descriptor {result}"),
            Self::Data(Data { count: 0, .. }) if at_end => {
                "0, end of file".to_owned()
            }
            Self::Data(Data { count: 0, .. }) => "0".to_owned(),
            Self::Data(data) => format!("{} {data}", data.count),
            Self::Signals(signals) => {
                let names = listed(signals.iter().map(Signal::to_string));
                format!("{result}, {names}")
            }
            Self::Signal => names::signal(result as i32),
            Self::Address(address) => address.clone(),
            Self::Ready(_) if result == 0 => "0, time is up".to_owned(),
            Self::Ready(ready) => {
                let ready = ready.iter();
                let each =
                    ready.map(|(role, events)| format!("{role} {events}"));
                format!("{result}: {}", listed(each))
            }
            Self::Events(events) => events.to_string(),
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nonblock = libc::SOCK_NONBLOCK as u64;
        match self {
            Self::Descriptor(role) => role.fmt(f),
            Self::Registration(registration) => registration.fmt(f),
            Self::Room(room) => room.fmt(f),
            Self::Data(data) => data.fmt(f),
            Self::AcceptFlags(flags) if flags & nonblock != 0 => {
                f.write_str("SOCK_NONBLOCK")
            }
            Self::MessageFlags(flags) if dont_wait(*flags) => {
                f.write_str("MSG_DONTWAIT")
            }
            Self::AcceptFlags(_) | Self::MessageFlags(_) => Ok(()),
            Self::RingFlags(flags) => {
                f.write_str(&names::bits(names::RING, (*flags).into()))
            }
            Self::SocketOption(level, option) => {
                f.write_str(&names::socket_option(*level, *option))
            }
            Self::FutexWait => f.write_str("wait"),
            Self::Patience(Duration::ZERO) => f.write_str("without waiting"),
            Self::Patience(patience) => {
                write!(f, "at most {}", length(*patience))
            }
            Self::Passed(role) => write!(f, "passing {role}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, role, events } = self;
        let events = names::bits(names::EPOLL, (*events).into());
        match *operation {
            libc::EPOLL_CTL_ADD => write!(f, "add {role}, {events}"),
            libc::EPOLL_CTL_MOD => write!(f, "change {role}, {events}"),
            _ => write!(f, "remove {role}"),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data(&self.bytes, self.count))
    }
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { name, family, .. } = self.operation;
        let count = self.data.len() as u64;
        match family {
            Family::Send => {
                write!(f, "{name}({}, {})", self.role, data(&self.data, count))
            }
            _ if self.operation == CANCEL => f.write_str(name),
            _ => write!(f, "{name}({})", self.role),
        }
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Poll(events) => {
                f.write_str(&names::bits(names::POLL, events.into()))
            }
            Self::Epoll(events) => {
                f.write_str(&names::bits(names::EPOLL, events.into()))
            }
            Self::Any => f.write_str("ready"),
        }
    }
}

/// Joins texts with commas.
pub fn listed(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

fn dont_wait(flags: u64) -> bool {
    flags & libc::MSG_DONTWAIT as u64 != 0
}
