//! Signals of sockets: how the kernel is made to send them, and how they are
//! read from the queue.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

/// Commands of fcntl(2) that set which signal the kernel sends for a
/// descriptor, and to which thread. libc defines them for some platforms only.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OWNER_TID: i32 = 0;

/// `struct f_owner_ex` of fcntl(2).
#[repr(C)]
struct Owner {
    kind: i32,
    id: libc::pid_t,
}

/// An empty entry of a buffer for signals.
// SAFETY: all fields are numbers, for which zero is valid.
pub const NONE: siginfo = unsafe { mem::zeroed() };

/// Returns the signal of streams and the listener. It must be a real-time
/// signal, because a standard signal is dropped while another one of its number
/// is pending. The C library itself uses the real-time signals below SIGRTMIN
/// (signal(7)).
pub fn of_sockets() -> i32 {
    libc::SIGRTMIN()
}

/// Blocks the signals of sockets, and returns a descriptor to read them from.
/// They stay in the thread's queue until then. SIGIO, sent in place of a signal
/// that found no room there, is read first, because the kernel returns the
/// lowest number of a queue first (signal(7)).
///
/// SIGTERM and SIGINT are not among them. They are sent to the process, whose
/// queue the kernel checks only when the thread's is empty, whatever the
/// numbers (kernel/signal.c, dequeue_signal). While clients are busy, it is
/// never empty. So those two have a descriptor of their own, in `drain.rs`.
pub fn open_queue() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGIO);
    let mut mask = *mask.as_ref();
    // SAFETY: `mask` is a valid set, and `of_sockets` a valid signal.
    unsafe { libc::sigaddset(&mut mask, of_sockets()) };
    // SAFETY: sigaddset has left `mask` a valid set.
    let mask = unsafe { SigSet::from_sigset_t_unchecked(mask) };
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd")
}

/// Has the kernel send `signal` to this thread when data, end of file or an
/// error arrives at `socket`, and when a send that returned EAGAIN has room
/// again. Earlier events are not reported. O_ASYNC is set last, so that no
/// signal is sent before its receiver is set.
///
/// The receiver is this thread, because any thread could take a signal that is
/// sent to the process.
pub fn arm(socket: &OwnedFd, signal: i32) -> nix::Result<()> {
    let fd = socket.as_raw_fd();
    let thread = nix::unistd::gettid().as_raw();
    let owner = Owner { kind: F_OWNER_TID, id: thread };
    // SAFETY: F_SETOWN_EX reads an f_owner_ex, and `owner` outlives the call.
    Errno::result(unsafe { libc::fcntl(fd, F_SETOWN_EX, &owner) })?;
    // SAFETY: the argument of F_SETSIG is a number.
    Errno::result(unsafe { libc::fcntl(fd, F_SETSIG, signal) })?;
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_ASYNC))?;
    Ok(())
}

/// Reads the queued signals, as many as `buffer` has room for, and returns
/// their number.
pub fn take(signals: &SignalFd, buffer: &mut [siginfo]) -> Result<usize> {
    let size = size_of_val(buffer);
    loop {
        let place = buffer.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `size` bytes, as whole `siginfo`s.
        let read = unsafe { libc::read(signals.as_raw_fd(), place, size) };
        match Errno::result(read) {
            Ok(bytes) => return Ok(bytes as usize / size_of::<siginfo>()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(0),
            Err(errno) => return Err(errno).context("read(signalfd)"),
        }
    }
}

/// The meaning of a signal from the queue.
pub enum Report {
    /// Events, in poll's terms, of the socket with this descriptor.
    Event(RawFd, PollFlags),
    /// The queue was full, so events of unknown sockets were lost.
    Overflow,
    /// Nothing: another process sent the signal.
    Forged,
}

/// Decodes a signal. Signals of the kernel have positive codes, which no
/// other process can set (sigaction(2), "The siginfo_t argument").
pub fn report(signal: &siginfo) -> Report {
    match signal.ssi_signo as i32 {
        _ if signal.ssi_code <= 0 => Report::Forged,
        libc::SIGIO => Report::Overflow,
        _ => {
            let events = PollFlags::from_bits_truncate(signal.ssi_band as i16);
            Report::Event(signal.ssi_fd, events)
        }
    }
}
