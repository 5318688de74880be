//! Reads the memory that a system call's arguments point to, according to their
//! kinds: input when the call begins, output when it has ended.

use nix::unistd::Pid;

use super::calls::{ArgumentKind, CallSpec, Effect, Layout};
use super::event::Memory;
use super::passed;
use super::remote::{read, read_message, read_text, read_vector};

/// The number of bytes kept of a buffer: room for four signalfd_siginfo.
const BUFFER: u64 = 512;

/// The number of entries kept of a list.
const ENTRIES: u64 = 64;

/// The size of the largest sockaddr of IPv4 or IPv6.
const ADDRESS: u64 = size_of::<libc::sockaddr_in6>() as u64;

/// The size of a timespec, and of a timeval.
const TIME: u64 = 16;

/// The size of the kernel's own sigset_t.
const SIGNALS: u64 = 8;

/// The size of a struct io_uring_params.
const PARAMETERS: u64 = 120;

const EPOLL_EVENT: u64 = size_of::<libc::epoll_event>() as u64;
const POLLFD: u64 = size_of::<libc::pollfd>() as u64;

/// Reads the memory that a call passes to the kernel.
pub fn entering(pid: Pid, call: &CallSpec, arguments: &[u64; 6]) -> Memory {
    let passed = matches!(call.effect, Effect::Passes).then_some(arguments[1]);
    read_all(pid, call, passed, |place, kind| {
        let address = arguments[place];
        let next = arguments.get(place + 1).copied().unwrap_or(0);
        let length = match kind {
            ArgumentKind::Data(layout) => {
                return buffer(pid, layout, address, next);
            }
            ArgumentKind::Path => return read_text(pid, address, BUFFER),
            ArgumentKind::Address => ADDRESS,
            ArgumentKind::SignalSet => SIGNALS,
            ArgumentKind::RingParameters => PARAMETERS,
            ArgumentKind::Timespec
            | ArgumentKind::Timeval
            | ArgumentKind::Pause => TIME,
            ArgumentKind::PollFds => pollfds(arguments),
            ArgumentKind::Set => set(arguments),
            ArgumentKind::Hidden(length) => length,
            _ => return None,
        };
        read(pid, address, length)
    })
}

/// Reads the memory that the kernel has filled, for a call that returned
/// `result`.
pub fn leaving(
    pid: Pid,
    call: &CallSpec,
    arguments: &[u64; 6],
    result: i64,
) -> Memory {
    let Ok(count) = u64::try_from(result) else { return Memory::default() };
    let received = matches!(call.effect, Effect::Receives);
    let received = received.then_some(arguments[1]);
    read_all(pid, call, received, |place, kind| {
        let address = arguments[place];
        let length = match kind {
            ArgumentKind::Buffer(layout) => {
                let mut bytes = buffer(pid, layout, address, count)?;
                // After the data, the buffer has its previous content.
                bytes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                return Some(bytes);
            }
            ArgumentKind::AddressFilled => ADDRESS,
            ArgumentKind::EpollEvents => count.min(ENTRIES) * EPOLL_EVENT,
            ArgumentKind::PollFds => pollfds(arguments),
            ArgumentKind::Set => set(arguments),
            ArgumentKind::SignalInfo => BUFFER,
            ArgumentKind::RingParameters => PARAMETERS,
            ArgumentKind::Pair => 8,
            _ => return None,
        };
        read(pid, address, length)
    })
}

/// Reads the first bytes of a buffer. A plain one is `length` bytes long.
fn buffer(
    pid: Pid,
    layout: Layout,
    address: u64,
    length: u64,
) -> Option<Vec<u8>> {
    match layout {
        Layout::Plain => read(pid, address, length.min(BUFFER)),
        Layout::Vector => read_vector(pid, address, BUFFER),
        Layout::Message => read_message(pid, address, BUFFER),
    }
}

/// Returns the size of an array of pollfd, whose length is the second argument.
fn pollfds(arguments: &[u64; 6]) -> u64 {
    arguments[1].min(ENTRIES) * POLLFD
}

/// Returns the size of a set of select(2), according to the first argument.
fn set(arguments: &[u64; 6]) -> u64 {
    arguments[0].div_ceil(64).saturating_mul(8).min(BUFFER)
}

/// Reads each argument's memory, and the descriptors that a message passes.
fn read_all(
    pid: Pid,
    call: &CallSpec,
    message: Option<u64>,
    read: impl Fn(usize, ArgumentKind) -> Option<Vec<u8>>,
) -> Memory {
    let kinds = call.arguments.iter().enumerate();
    let pieces = kinds.filter_map(|(place, kind)| {
        Some((place as u8, read(place, *kind)?.into()))
    });
    let passed = message.and_then(|it| passed::read_passed(pid, it));
    let passed = passed.map(|bytes| (passed::PLACE, bytes.into()));
    Memory(pieces.chain(passed).collect())
}
