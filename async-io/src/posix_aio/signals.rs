//! The signals of this model: blocked from the start, in every thread, and
//! taken one by one with sigtimedwait(2).

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

/// What a signal says.
pub enum Event {
    /// SIGTERM or SIGINT.
    Shutdown,
    /// Somebody may have connected.
    Connected,
    /// The operation under this key may be complete.
    Completed(DefaultKey),
}

/// The signals that are waited for.
pub struct Signals(libc::sigset_t);

/// The signal of an operation that is complete. It must be a real-time one:
/// the others are not queued, so two would become one. glibc has the first
/// two for itself.
pub fn completed() -> i32 {
    libc::SIGRTMIN()
}

impl Signals {
    /// Blocks them in this thread, before it has any other: those begin with
    /// the same mask. The threads that glibc makes for operations block all.
    pub fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGIO);
        let mut set = *set.as_ref();
        // SAFETY: `set` is initialised, and the signal's number is valid.
        unsafe { libc::sigaddset(&mut set, completed()) };
        let how = SigmaskHow::SIG_BLOCK as i32;
        // SAFETY: `set` is initialised; nobody asks for the old one.
        match unsafe { libc::pthread_sigmask(how, &set, ptr::null_mut()) } {
            0 => Ok(Self(set)),
            code => Err(Errno::from_raw(code)).context("cannot block signals"),
        }
    }

    /// Takes the next signal, or waits for one until then; `None`: for ever.
    pub fn next(&self, until: Option<Instant>) -> Result<Option<Event>> {
        let left = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            TimeSpec::from(left)
        });
        let left = left.as_ref().map_or(ptr::null(), |left| {
            ptr::from_ref::<libc::timespec>(left.as_ref())
        });
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: set and time are initialised, and `info` has room.
        let signal =
            unsafe { libc::sigtimedwait(&self.0, info.as_mut_ptr(), left) };
        match Errno::result(signal) {
            Ok(libc::SIGTERM | libc::SIGINT) => Ok(Some(Event::Shutdown)),
            Ok(libc::SIGIO) => Ok(Some(Event::Connected)),
            Ok(_) => {
                // SAFETY: sigtimedwait has filled it.
                let info = unsafe { info.assume_init() };
                // SAFETY: all of it was filled; and whoever sent the signal,
                // a value that is no key finds nobody.
                let value = unsafe { info.si_value() };
                let key = KeyData::from_ffi(value.sival_ptr as usize as u64);
                Ok(Some(Event::Completed(key.into())))
            }
            // The time is up, or another signal was handled: a debugger's.
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno).context("sigtimedwait"),
        }
    }
}

/// Has the listener send SIGIO when somebody connects. It stays pending once,
/// however many come, so all of them must be accepted; and the kernel finds
/// room for it always, which it does not for a real-time signal: it takes no
/// place in the queue from the operations.
pub fn watch(listener: &OwnedFd) -> Result<()> {
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: F_SETOWN takes a number.
    let owned =
        unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_SETOWN, process) };
    Errno::result(owned).context("fcntl(F_SETOWN)")?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_ASYNC;
    fcntl(listener, FcntlArg::F_SETFL(flags)).context("fcntl(F_SETFL)")?;
    Ok(())
}
