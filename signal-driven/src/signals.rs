//! Signals about sockets: how a socket comes to send them, and how they are
//! taken from the queue.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

/// fcntl(2): which signal a descriptor sends, and to whom. libc has them for
/// some platforms only.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OWNER_TID: i32 = 0;

/// `struct f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: i32,
    id: libc::pid_t,
}

/// No signal.
// SAFETY: it has numbers only, and zero is one.
pub const NONE: siginfo = unsafe { mem::zeroed() };

/// What streams and listener send. It must be a real-time signal: of others,
/// one that comes while one is pending is dropped. Those below the first are
/// the C library's own.
pub fn event() -> i32 {
    libc::SIGRTMIN()
}

/// The signals of sockets, as a descriptor: they stay blocked, and wait in the
/// thread's queue until they are read. SIGIO, sent in place of a signal that
/// found no room there, is read first, because the kernel hands out the lowest
/// number of a queue first (signal(7)).
///
/// SIGTERM and SIGINT are not among them. They go to the process, whose queue
/// the kernel looks at only when the thread's is empty, whatever the numbers
/// (kernel/signal.c, dequeue_signal): while clients are busy it never is. So
/// those two have a descriptor of their own, in `drain.rs`.
pub fn events() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGIO);
    let mut mask = *mask.as_ref();
    // SAFETY: `mask` is a valid set, and `event` a valid signal.
    unsafe { libc::sigaddset(&mut mask, event()) };
    // SAFETY: the same.
    let mask = unsafe { SigSet::from_sigset_t_unchecked(mask) };
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd")
}

/// Has `socket` send `signal` to this thread whenever something happens to it
/// that poll(2) would report. What has happened so far, it does not tell.
/// With O_ASYNC as the last step, nothing is sent to anybody else before.
///
/// To the thread, not the process, whose signals any of its threads might take.
pub fn arm(socket: &OwnedFd, signal: i32) -> nix::Result<()> {
    let fd = socket.as_raw_fd();
    let thread = nix::unistd::gettid().as_raw();
    let owner = Owner { kind: F_OWNER_TID, id: thread };
    // SAFETY: F_SETOWN_EX reads an f_owner_ex, and `owner` outlives the call.
    Errno::result(unsafe { libc::fcntl(fd, F_SETOWN_EX, &owner) })?;
    // SAFETY: F_SETSIG takes a number.
    Errno::result(unsafe { libc::fcntl(fd, F_SETSIG, signal) })?;
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_ASYNC))?;
    Ok(())
}

/// Takes as many signals as are queued and `queue` has room for, and says how
/// many.
pub fn take(signals: &SignalFd, queue: &mut [siginfo]) -> Result<usize> {
    let size = size_of_val(queue);
    loop {
        let place = queue.as_mut_ptr().cast();
        // SAFETY: the kernel fills no more than `size` bytes, with whole
        // `siginfo`s.
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
    /// Something has happened to the socket with this descriptor, in poll's
    /// terms.
    Event(RawFd, PollFlags),
    /// The queue was full: something has happened that it does not name.
    Overflow,
    /// Nothing: another process sent the signal.
    Forged,
}

/// Reads a signal. The kernel's own have positive codes, which no other
/// process can give to a signal (sigaction(2), "The siginfo_t argument").
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
