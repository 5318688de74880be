//! Memory of a system call that is worth a look, by the kinds of its arguments:
//! what goes into the kernel is read when the call begins, what comes out of
//! it when the call has ended.

use nix::unistd::Pid;

use super::calls::{ArgumentKind, CallSpec, Layout};
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
    read_all(pid, call, arguments, |place, kind| {
        let next = arguments.get(place + 1).copied().unwrap_or(0);
        Some(match kind {
            ArgumentKind::Data(layout) => Part::laid_out(layout, next),
            ArgumentKind::Address => Bytes(ADDRESS),
            ArgumentKind::Path => Text,
            ArgumentKind::SignalSet => Bytes(SIGNALS),
            ArgumentKind::RingParameters => Bytes(PARAMETERS),
            ArgumentKind::Timespec
            | ArgumentKind::Timeval
            | ArgumentKind::Pause => Bytes(TIME),
            ArgumentKind::PollFds => pollfds(arguments),
            ArgumentKind::Set => set(arguments),
            ArgumentKind::Hidden(length) => Bytes(length),
            _ => return None,
        })
    })
}

/// Reads the memory that the kernel has filled, of a call that returned
/// `result`.
pub fn leaving(
    pid: Pid,
    call: &CallSpec,
    arguments: &[u64; 6],
    result: i64,
) -> Memory {
    let Ok(count) = u64::try_from(result) else { return Memory::default() };
    let mut memory = read_all(pid, call, arguments, |_, kind| {
        Some(match kind {
            ArgumentKind::Buffer(layout) => Part::laid_out(layout, count),
            ArgumentKind::AddressFilled => Bytes(ADDRESS),
            ArgumentKind::EpollEvents => {
                Bytes(count.min(ENTRIES) * EPOLL_EVENT)
            }
            ArgumentKind::PollFds => pollfds(arguments),
            ArgumentKind::Set => set(arguments),
            ArgumentKind::SignalInfo => Bytes(BUFFER),
            ArgumentKind::RingParameters => Bytes(PARAMETERS),
            ArgumentKind::Pair => Bytes(8),
            _ => return None,
        })
    });
    let fills = |kind: &ArgumentKind| matches!(kind, ArgumentKind::Buffer(_));
    if call.arguments.iter().any(fills) {
        // Behind the data, the buffers hold what was there before.
        let filled = usize::try_from(count).unwrap_or(usize::MAX);
        for (_, bytes) in &mut memory.0 {
            *bytes = bytes[..filled.min(bytes.len())].into();
        }
    }
    memory
}

fn pollfds(arguments: &[u64; 6]) -> Part {
    Bytes(arguments[1].min(ENTRIES) * POLLFD)
}

/// A set of select(2), as far as its first argument says.
fn set(arguments: &[u64; 6]) -> Part {
    Bytes(arguments[0].div_ceil(64).saturating_mul(8).min(BUFFER))
}

fn read_all(
    pid: Pid,
    call: &CallSpec,
    arguments: &[u64; 6],
    part: impl Fn(usize, ArgumentKind) -> Option<Part>,
) -> Memory {
    let kinds = call.arguments.iter().enumerate();
    let pieces = kinds.filter_map(|(place, kind)| {
        let bytes = part(place, *kind)?.read(pid, arguments[place])?;
        Some((place as u8, bytes.into()))
    });
    Memory(pieces.collect())
}
