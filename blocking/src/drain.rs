//! Graceful shutdown of a program that blocks in system calls: skip it on a
//! first read.
//!
//! A flag that the signal handler sets is not enough: the signal may arrive
//! after the check of the flag and before the call that waits. So the handler
//! also shuts down the receiving side of the socket, which affects a call that
//! has begun and all later ones: accept(2) returns EINVAL; recv(2) returns what
//! has arrived, then end of file; recvfrom(2) returns the queued datagrams,
//! then nothing.
//!
//! Linux does all this; POSIX says only that shutdown(2) disables later
//! receives of a connected socket. On Linux it also wakes a call that waits on
//! a listener, or on a datagram socket without a peer, although for the latter
//! it returns ENOTCONN (net/ipv4/af_inet.c, inet_shutdown). So its result is
//! ignored here.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::sys::socket::{Shutdown, shutdown};

/// The socket that the signal handler shuts down: the one on which a call waits
/// or will wait next. -1 if it must not touch any.
static TARGET: AtomicI32 = AtomicI32::new(-1);
/// The socket on which the program waits while it serves no client.
static HOME: AtomicI32 = AtomicI32::new(-1);
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// The drain timeout in microseconds, for the signal handler.
static DRAIN_US: AtomicI64 = AtomicI64::new(0);

/// Installs the signal handlers. SIGTERM and SIGINT request shutdown; a second
/// one ends the process at once. `home` is the socket on which the program
/// waits while it serves no client.
pub fn install(home: BorrowedFd<'_>, drain_timeout: Duration) -> Result<()> {
    HOME.store(home.as_raw_fd(), Ordering::SeqCst);
    set_target(home);
    // Zero would disarm the timer instead of letting it expire at once.
    let drain_us = drain_timeout.as_micros().max(1) as i64;
    DRAIN_US.store(drain_us, Ordering::SeqCst);
    let mut signals = SigSet::empty();
    for (signal, handler) in [
        (Signal::SIGTERM, on_signal as extern "C" fn(i32)),
        (Signal::SIGINT, on_signal),
        (Signal::SIGALRM, on_drain_deadline),
    ] {
        // No SA_RESTART, so that an interrupted call returns EINTR.
        let action = SigAction::new(
            SigHandler::Handler(handler),
            SaFlags::empty(),
            SigSet::all(),
        );
        // SAFETY: the handlers make only calls that signal-safety(7) lists, and
        // setitimer. It is not listed, but safe in glibc and musl, where it is
        // a bare system call.
        unsafe { sigaction(signal, &action) }
            .with_context(|| format!("cannot handle {signal}"))?;
        signals.add(signal);
    }
    // The parent process may have left them blocked; exec(2) keeps the mask.
    signals.thread_unblock().context("cannot unblock signals")
}

/// Makes `socket` the one that the signal handler shuts down, until the next
/// call of this function. That call must come before a new descriptor can reuse
/// the number of a closed `socket`.
pub fn set_target(socket: BorrowedFd<'_>) {
    TARGET.store(socket.as_raw_fd(), Ordering::SeqCst);
    if requested() {
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
    }
}

/// Keeps the signal handler from touching `stream` any more; returns false if
/// it already has.
pub fn clear_target(_stream: BorrowedFd<'_>) -> bool {
    TARGET.store(-1, Ordering::SeqCst);
    !requested()
}

/// True once shutdown was requested.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

extern "C" fn on_signal(_: i32) {
    let errno = Errno::last_raw();
    if REQUESTED.swap(true, Ordering::SeqCst) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(1) }
    }
    let _ = shutdown(TARGET.load(Ordering::SeqCst), Shutdown::Read);
    let drain_us = DRAIN_US.load(Ordering::SeqCst);
    let once = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: drain_us / 1_000_000,
            tv_usec: drain_us % 1_000_000,
        },
    };
    // SAFETY: `once` outlives the call, and a null pointer is allowed for the
    // old value. setitimer is a bare system call in glibc and musl.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &once, std::ptr::null_mut()) };
    Errno::set_raw(errno);
}

/// Ends the process, whatever call it is in, because the conversation has not
/// ended in time. Reports that on standard error, unless the write would block.
extern "C" fn on_drain_deadline(_: i32) {
    const CUT_OFF: &[u8] = b"drain timeout: 1 client(s) cut off\n";
    let home = HOME.load(Ordering::SeqCst);
    let stderr = std::io::stderr();
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if TARGET.load(Ordering::SeqCst) != home
        && poll(&mut writable, PollTimeout::ZERO) == Ok(1)
    {
        let _ = nix::unistd::write(stderr.as_fd(), CUT_OFF);
    }
    // SAFETY: _exit is async-signal-safe and does not return.
    unsafe { libc::_exit(0) }
}
