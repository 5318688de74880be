//! The signals of this variant. They are blocked from the start, in every
//! thread, and accepted one by one with sigtimedwait(2).

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::time::TimeSpec;
use slotmap::{DefaultKey, KeyData};

/// The meaning of a signal.
pub enum Event {
    /// SIGTERM or SIGINT.
    Shutdown,
    /// SIGIO: a client may have connected.
    Connected,
    /// The operation under this key may be complete.
    Completed(DefaultKey),
}

/// The set of signals to wait for.
pub struct Signals(libc::sigset_t);

/// Returns the completion signal. It must be a real-time signal, because others
/// are not queued, and two would become one. glibc uses the first two itself.
pub fn completed() -> i32 {
    libc::SIGRTMIN()
}

impl Signals {
    /// Blocks the signals. Call it before there is a second thread, because
    /// threads inherit the mask. glibc's helper threads block all signals.
    pub fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGIO);
        let mut set = *set.as_ref();
        // SAFETY: `set` is initialised, and the signal's number is valid.
        unsafe { libc::sigaddset(&mut set, completed()) };
        let how = SigmaskHow::SIG_BLOCK as i32;
        // SAFETY: `set` is initialised, and the old mask is not requested.
        match unsafe { libc::pthread_sigmask(how, &set, ptr::null_mut()) } {
            0 => Ok(Self(set)),
            code => Err(Errno::from_raw(code)).context("cannot block signals"),
        }
    }

    /// Accepts the next signal, or waits for one until `until`, with `None`
    /// without limit.
    pub fn next(&self, until: Option<Instant>) -> Result<Option<Event>> {
        let left = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            TimeSpec::from(left)
        });
        let left = left.as_ref().map_or(ptr::null(), |left| {
            ptr::from_ref::<libc::timespec>(left.as_ref())
        });
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: set and timeout are initialised, and `info` has room.
        let signal =
            unsafe { libc::sigtimedwait(&self.0, info.as_mut_ptr(), left) };
        match Errno::result(signal) {
            Ok(libc::SIGTERM | libc::SIGINT) => Ok(Some(Event::Shutdown)),
            Ok(libc::SIGIO) => Ok(Some(Event::Connected)),
            Ok(_) => {
                // SAFETY: sigtimedwait has initialised it.
                let info = unsafe { info.assume_init() };
                // SAFETY: all of `info` is initialised. If another process has
                // sent the signal, its value is just a key without a client.
                let value = unsafe { info.si_value() };
                let key = KeyData::from_ffi(value.sival_ptr as usize as u64);
                Ok(Some(Event::Completed(key.into())))
            }
            // The timeout, or an interruption, as by SIGSTOP and SIGCONT.
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno).context("sigtimedwait"),
        }
    }
}

/// Makes the listener send SIGIO when a client connects. SIGIO is pending at
/// most once, however many clients connect, so the accept queue must be
/// emptied. In return, the kernel can always make SIGIO pending, unlike a
/// real-time signal, and it uses none of the room for completions.
pub fn watch(listener: &OwnedFd) -> Result<()> {
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: the argument of F_SETOWN is an int.
    let owned =
        unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_SETOWN, process) };
    Errno::result(owned).context("fcntl(F_SETOWN)")?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_ASYNC;
    fcntl(listener, FcntlArg::F_SETFL(flags)).context("fcntl(F_SETFL)")?;
    Ok(())
}
