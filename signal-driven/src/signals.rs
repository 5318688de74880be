//! Signals about sockets: how a socket comes to send them, and how they are
//! taken from the queue.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};

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

/// From here on these signals wait in a queue until they are read, in this
/// order: a stop, a loss, events as they came. The kernel takes the lowest
/// number first (signal(7)).
pub fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGIO] {
        mask.add(signal);
    }
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

/// What has happened, in poll's terms. A signal that somebody else sent tells
/// nothing.
pub fn events(signal: &siginfo) -> PollFlags {
    PollFlags::from_bits_truncate(signal.ssi_band as i16)
}
