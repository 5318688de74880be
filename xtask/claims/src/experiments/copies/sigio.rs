//! Signal-driven I/O: a socket that sends a signal when data arrives, and
//! handlers for it.

use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::unistd::{getpid, gettid};

use crate::kit::computing::{Buffer, LENGTH};

/// Commands of fcntl(2) for the signal of a descriptor, and its receiver. The
/// libc crate has them for some platforms only.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// The receiver of a descriptor's signals: the type in `struct f_owner_ex`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Owner {
    /// The thread that sets it.
    Thread = 0,
    Process = 1,
}

/// Makes a socket send a signal for each datagram.
pub fn arm(socket: &UnixDatagram, signal: i32, owner: Owner) -> Result<()> {
    let fd = socket.as_raw_fd();
    let id = match owner {
        Owner::Thread => gettid(),
        Owner::Process => getpid(),
    };
    // `struct f_owner_ex`.
    let f_owner_ex: [i32; 2] = [owner as i32, id.as_raw()];
    // SAFETY: F_SETOWN_EX reads an f_owner_ex.
    let result = unsafe { libc::fcntl(fd, F_SETOWN_EX, &f_owner_ex) };
    Errno::result(result).context("F_SETOWN_EX")?;
    // SAFETY: F_SETSIG takes a number.
    let result = unsafe { libc::fcntl(fd, F_SETSIG, signal) };
    Errno::result(result).context("F_SETSIG")?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_ASYNC;
    fcntl(socket, FcntlArg::F_SETFL(flags)).context("O_ASYNC")?;
    Ok(())
}

/// Returns a real-time signal, of which several can be queued.
pub fn queued() -> i32 {
    libc::SIGRTMIN()
}

/// Returns the set of a real-time signal and others.
pub fn set_with_queued(others: SigSet) -> SigSet {
    let mut set = *others.as_ref();
    // SAFETY: a valid set and a valid signal.
    unsafe { libc::sigaddset(&mut set, queued()) };
    // SAFETY: the set was initialized above.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// The socket and the buffer of the handler, and how often it has run.
static SOCKET: AtomicI32 = AtomicI32::new(-1);
static BUFFER: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static HANDLED: AtomicUsize = AtomicUsize::new(0);

/// Copies the datagram, as a program that uses signal-driven I/O in the
/// simplest way. recv is async-signal-safe.
extern "C" fn receive(_: i32) {
    let (fd, start): (RawFd, _) = (SOCKET.load(SeqCst), BUFFER.load(SeqCst));
    let errno = Errno::last();
    // SAFETY: `receive_in_handler` stored a buffer of `LENGTH` bytes, which is
    // never unmapped.
    unsafe { libc::recv(fd, start.cast(), LENGTH, libc::MSG_DONTWAIT) };
    // The interrupted code may be about to read it.
    errno.set();
    HANDLED.fetch_add(1, SeqCst);
}

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, SeqCst);
}

/// Installs a handler for SIGIO that receives from this socket into this
/// buffer.
pub fn receive_in_handler(
    socket: &UnixDatagram,
    buffer: &Buffer,
) -> Result<()> {
    SOCKET.store(socket.as_raw_fd(), SeqCst);
    BUFFER.store(buffer.start(), SeqCst);
    HANDLED.store(0, SeqCst);
    let handler = SigHandler::Handler(receive);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler calls async-signal-safe functions only.
    unsafe { sigaction(Signal::SIGIO, &action) }.context("sigaction")?;
    Ok(())
}

/// Installs a handler for the real-time signal that counts.
pub fn count_in_handler() -> Result<()> {
    HANDLED.store(0, SeqCst);
    let handler: extern "C" fn(i32) = count;
    // SAFETY: the handler adds to a counter and does nothing else.
    let before = unsafe {
        libc::signal(queued(), handler as *const () as libc::sighandler_t)
    };
    Errno::result(before).context("signal")?;
    Ok(())
}

/// Returns how often the handler has run.
pub fn handled() -> usize {
    HANDLED.load(SeqCst)
}
