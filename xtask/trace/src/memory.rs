//! Which arguments of a system call point to memory that is worth a look, and
//! how much of it: what goes into the kernel is read when the call begins,
//! what comes out of it when the call has ended.

use std::io::IoSliceMut;
use std::mem::size_of;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::event::Memory;
use super::ring;

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

const EPOLL_EVENT: u64 = size_of::<libc::epoll_event>() as u64;
const POLLFD: u64 = size_of::<libc::pollfd>() as u64;
const IO_VECTOR: u64 = size_of::<libc::iovec>() as u64;

/// What to read: so many bytes at an argument, or the data of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bytes(u8, u64),
    /// The argument points to an array of iovec.
    Vector(u8),
    /// The argument points to a msghdr.
    Message(u8),
    /// The argument points to a string that ends with a zero.
    Text(u8),
}

use Part::{Bytes, Message, Text, Vector};

/// What a call passes to the kernel.
pub fn entering(pid: Pid, name: &str, arguments: &[u64; 6]) -> Memory {
    let length = arguments[2].min(BUFFER);
    let parts = match name {
        "write" | "pwrite64" => vec![Bytes(1, length)],
        "sendto" => vec![Bytes(1, length), Bytes(4, ADDRESS)],
        "writev" | "pwritev" => vec![Vector(1)],
        "sendmsg" => vec![Message(1)],
        "bind" | "connect" => vec![Bytes(1, ADDRESS)],
        "setsockopt" => vec![Bytes(3, arguments[4].min(TIME))],
        "epoll_ctl" => vec![Bytes(3, EPOLL_EVENT)],
        "epoll_pwait2" => vec![Bytes(3, TIME)],
        "poll" => vec![pollfds(arguments)],
        "ppoll" => vec![pollfds(arguments), Bytes(2, TIME)],
        "select" | "pselect6" => {
            let mut parts = sets(arguments);
            parts.push(Bytes(4, TIME));
            parts
        }
        "rt_sigtimedwait" => vec![Bytes(0, SIGNALS), Bytes(2, TIME)],
        "rt_sigprocmask" | "signalfd4" => vec![Bytes(1, SIGNALS)],
        "io_uring_setup" => vec![Bytes(1, ring::PARAMETERS)],
        "nanosleep" => vec![Bytes(0, TIME)],
        "clock_nanosleep" => vec![Bytes(2, TIME)],
        "futex" => vec![Bytes(3, TIME)],
        "timerfd_settime" => vec![Bytes(2, 2 * TIME)],
        "open" | "execve" => vec![Text(0)],
        "openat" => vec![Text(1)],
        _ => vec![],
    };
    read_all(pid, arguments, &parts)
}

/// What the kernel has filled, of a call that returned `result`.
pub fn leaving(
    pid: Pid,
    name: &str,
    arguments: &[u64; 6],
    result: i64,
) -> Memory {
    let Ok(count) = u64::try_from(result) else { return Memory::default() };
    let parts = match name {
        "read" | "pread64" => vec![Bytes(1, count.min(BUFFER))],
        "recvfrom" => vec![Bytes(1, count.min(BUFFER)), Bytes(4, ADDRESS)],
        "readv" | "preadv" => vec![Vector(1)],
        "recvmsg" => vec![Message(1)],
        "accept" | "accept4" | "getsockname" | "getpeername" => {
            vec![Bytes(1, ADDRESS)]
        }
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => {
            vec![Bytes(1, count.min(ENTRIES) * EPOLL_EVENT)]
        }
        "poll" | "ppoll" => vec![pollfds(arguments)],
        "select" | "pselect6" => sets(arguments),
        "rt_sigtimedwait" => vec![Bytes(1, BUFFER)],
        "io_uring_setup" => vec![Bytes(1, ring::PARAMETERS)],
        "pipe" | "pipe2" => vec![Bytes(0, 8)],
        "socketpair" => vec![Bytes(3, 8)],
        _ => vec![],
    };
    let mut memory = read_all(pid, arguments, &parts);
    if let [Vector(_) | Message(_)] = parts[..] {
        // Behind the data, the buffers hold what was there before.
        let filled = usize::try_from(count).unwrap_or(usize::MAX);
        for (_, bytes) in &mut memory.0 {
            *bytes = bytes[..filled.min(bytes.len())].into();
        }
    }
    memory
}

fn pollfds(arguments: &[u64; 6]) -> Part {
    Bytes(0, arguments[1].min(ENTRIES) * POLLFD)
}

/// The three sets of select(2), as far as its first argument says.
fn sets(arguments: &[u64; 6]) -> Vec<Part> {
    let bytes = arguments[0].div_ceil(64).saturating_mul(8).min(BUFFER);
    (1..=3).map(|position| Bytes(position, bytes)).collect()
}

fn read_all(pid: Pid, arguments: &[u64; 6], parts: &[Part]) -> Memory {
    let pieces = parts.iter().filter_map(|part| {
        let (Bytes(position, _)
        | Vector(position)
        | Message(position)
        | Text(position)) = *part;
        let address = arguments[usize::from(position)];
        let bytes = match *part {
            Bytes(_, length) => read(pid, address, length),
            Vector(_) => read_vector(pid, address),
            // The address of the peer and its length come first.
            Message(_) => {
                let message = read(pid, address, 24)?;
                read_vector(pid, word(&message, 16)?)
            }
            Text(_) => read_text(pid, address),
        };
        Some((position, bytes?.into()))
    });
    Memory(pieces.collect())
}

/// The first bytes of the first buffer of a vector.
fn read_vector(pid: Pid, address: u64) -> Option<Vec<u8>> {
    let first = read(pid, address, IO_VECTOR)?;
    read(pid, word(&first, 0)?, word(&first, 8)?.min(BUFFER))
}

/// A string may end right before a page that is not there.
fn read_text(pid: Pid, address: u64) -> Option<Vec<u8>> {
    let to_next_page = 4096 - address % 4096;
    let mut text = read(pid, address, BUFFER.min(to_next_page))?;
    let end = text.iter().position(|byte| *byte == 0);
    text.truncate(end.unwrap_or(text.len()));
    Some(text)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// Bytes of another process, which is stopped; None where it has none there.
pub fn read(pid: Pid, address: u64, length: u64) -> Option<Vec<u8>> {
    if address == 0 || length == 0 {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let mut bytes = vec![0; length];
    let there =
        RemoteIoVec { base: usize::try_from(address).ok()?, len: length };
    let mut here = [IoSliceMut::new(&mut bytes)];
    let count = process_vm_readv(pid, &mut here, &[there]).ok()?;
    bytes.truncate(count);
    Some(bytes)
}
