//! Memory of a system call that is worth a look, by the kinds of its arguments:
//! what goes into the kernel is read when the call begins, what comes out of
//! it when the call has ended.

use nix::unistd::Pid;

use super::calls::{ArgumentKind, CallSpec, Effect, Layout};
use super::event::Memory;
use super::remote::{read, read_message, read_text, read_vector};

/// As much of a buffer as is kept, in bytes: room for four signalfd_siginfo.
const BUFFER: u64 = 512;

/// As much of a list as is kept, in entries.
const ENTRIES: u64 = 64;

/// Room for any sockaddr of IPv4 or IPv6.
const ADDRESS: u64 = size_of::<libc::sockaddr_in6>() as u64;

/// A timespec, and a timeval.
const TIME: u64 = 16;

/// The kernel's own sigset_t.
const SIGNALS: u64 = 8;

/// struct io_uring_params.
const PARAMETERS: u64 = 120;

const EPOLL_EVENT: u64 = size_of::<libc::epoll_event>() as u64;
const POLLFD: u64 = size_of::<libc::pollfd>() as u64;

/// A piece of memory at an argument.
#[derive(Clone, Copy, Debug)]
enum Part {
    Bytes(u64),
    Vector,
    Message,
    Text,
}

use Part::{Bytes, Text};

impl Part {
    fn laid_out(layout: Layout, length: u64) -> Self {
        match layout {
            Layout::Plain => Bytes(length.min(BUFFER)),
            Layout::Vector => Self::Vector,
            Layout::Message => Self::Message,
        }
    }

    fn read(self, pid: Pid, address: u64) -> Option<Vec<u8>> {
        match self {
            Bytes(length) => read(pid, address, length),
            Self::Vector => read_vector(pid, address, BUFFER),
            Self::Message => read_message(pid, address, BUFFER),
            Text => read_text(pid, address, BUFFER),
        }
    }
}

/// Reads the memory that a call passes to the kernel.
pub fn entering(pid: Pid, call: &CallSpec, arguments: &[u64; 6]) -> Memory {
    let mut memory = Memory::default();
    for (place, kind) in call.arguments.iter().enumerate() {
        let next = arguments.get(place + 1).copied().unwrap_or(0);
        let part = match kind {
            ArgumentKind::Data(layout) => Part::laid_out(*layout, next),
            ArgumentKind::Address => Bytes(ADDRESS),
            ArgumentKind::Path => Text,
            ArgumentKind::SignalSet => Bytes(SIGNALS),
            ArgumentKind::RingParameters => Bytes(PARAMETERS),
            ArgumentKind::Timespec
            | ArgumentKind::Timeval
            | ArgumentKind::Pause => Bytes(TIME),
            ArgumentKind::PollFds => pollfds(arguments),
            ArgumentKind::Sets => {
                memory.add_sets(pid, arguments);
                continue;
            }
            // What these are about is in the arguments behind them.
            ArgumentKind::SignalMask => {
                memory.add(pid, arguments, place + 1, Bytes(SIGNALS));
                continue;
            }
            ArgumentKind::Control => {
                memory.add(pid, arguments, place + 2, Bytes(EPOLL_EVENT));
                continue;
            }
            _ => continue,
        };
        memory.add(pid, arguments, place, part);
    }
    memory
}

/// Reads the memory that the kernel has filled, of a call that returned
/// `result`.
pub fn leaving(
    pid: Pid,
    call: &CallSpec,
    arguments: &[u64; 6],
    result: i64,
) -> Memory {
    let mut memory = Memory::default();
    let Ok(count) = u64::try_from(result) else { return memory };
    if let Effect::OpensPair(place) = call.effect {
        memory.add(pid, arguments, place.into(), Bytes(8));
    }
    for (place, kind) in call.arguments.iter().enumerate() {
        let part = match kind {
            ArgumentKind::Buffer(layout) => Part::laid_out(*layout, count),
            ArgumentKind::AddressFilled => Bytes(ADDRESS),
            ArgumentKind::EpollEvents => {
                Bytes(count.min(ENTRIES) * EPOLL_EVENT)
            }
            ArgumentKind::PollFds => pollfds(arguments),
            ArgumentKind::Sets => {
                memory.add_sets(pid, arguments);
                continue;
            }
            ArgumentKind::SignalInfo => Bytes(BUFFER),
            ArgumentKind::RingParameters => Bytes(PARAMETERS),
            _ => continue,
        };
        memory.add(pid, arguments, place, part);
        if let ArgumentKind::Buffer(_) = kind {
            // Behind the data, the buffers hold what was there before.
            memory.cut(usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
    memory
}

fn pollfds(arguments: &[u64; 6]) -> Part {
    Bytes(arguments[1].min(ENTRIES) * POLLFD)
}

impl Memory {
    fn add(&mut self, pid: Pid, all: &[u64; 6], place: usize, part: Part) {
        if let Some(bytes) = part.read(pid, all[place]) {
            self.0.push((place as u8, bytes.into()));
        }
    }

    /// The three sets of select(2), as far as its first argument says.
    fn add_sets(&mut self, pid: Pid, all: &[u64; 6]) {
        let bytes = all[0].div_ceil(64).saturating_mul(8).min(BUFFER);
        for place in 1..=3 {
            self.add(pid, all, place, Bytes(bytes));
        }
    }

    fn cut(&mut self, length: usize) {
        if let Some((_, bytes)) = self.0.last_mut() {
            *bytes = bytes[..length.min(bytes.len())].into();
        }
    }
}
