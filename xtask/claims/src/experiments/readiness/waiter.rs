//! Calls that wait for one descriptor, for a thread that another thread looks
//! at.

use std::fs;
use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lab::Unsupported;
use libc::{POLLIN, POLLNVAL, c_long};
use nix::errno::Errno;
use nix::sys::epoll::Epoll;
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;

use super::bitmap::Bitmap;

/// The timeout of the calls.
pub const TIMEOUT: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug)]
pub enum Call {
    Select,
    Poll,
    Epoll,
}

/// The report of a call that has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Nothing,
    Readable,
    Invalid,
    Error(Errno),
}

impl Call {
    /// Waits until a descriptor can be read. For epoll, it is in the interest
    /// list of `epoll`.
    pub fn wait(self, fd: RawFd, epoll: &Epoll) -> Report {
        match self {
            Self::Select => select(fd),
            Self::Poll => poll(fd),
            Self::Epoll => epoll_pwait(epoll),
        }
    }

    /// Waits until a thread is blocked in this call. Returns false if it is
    /// not seen there before its timeout must have expired.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if the kernel doesn't show the calls of threads.
    pub fn is_entered(self, thread: Pid) -> Result<bool> {
        let own = "/proc/thread-self/syscall";
        if let Err(error) = fs::metadata(own) {
            bail!(Unsupported::Tool(format!("{own}: {error}")));
        }
        let number: c_long = match self {
            Self::Select => libc::SYS_pselect6,
            Self::Poll => libc::SYS_ppoll,
            Self::Epoll => libc::SYS_epoll_pwait,
        };
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            // A number and arguments, or "running". There is no such file when
            // the thread has ended.
            let path = format!("/proc/self/task/{thread}/syscall");
            let text = fs::read_to_string(path).unwrap_or_default();
            if text.starts_with(&format!("{number} ")) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn select(fd: RawFd) -> Report {
    let mut set = Bitmap::new(fd as usize + 1);
    set.insert(fd);
    match set.select(TIMEOUT) {
        Ok(0) => Report::Nothing,
        Ok(_) => Report::Readable,
        Err(error) => Report::Error(error),
    }
}

fn poll(fd: RawFd) -> Report {
    let mut entry = libc::pollfd { fd, events: POLLIN, revents: 0 };
    let timeout = TimeSpec::from_duration(TIMEOUT);
    let timeout = ptr::from_ref(timeout.as_ref());
    // SAFETY: the array has one entry, the timeout outlives the call, and a
    // null pointer stands for no signal mask.
    let ready = unsafe { libc::ppoll(&mut entry, 1, timeout, ptr::null()) };
    match Errno::result(ready) {
        Ok(0) => Report::Nothing,
        Ok(_) if entry.revents & POLLNVAL != 0 => Report::Invalid,
        Ok(_) => Report::Readable,
        Err(error) => Report::Error(error),
    }
}

fn epoll_pwait(epoll: &Epoll) -> Report {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let timeout = TIMEOUT.as_millis() as i32;
    let (fd, mask) = (epoll.0.as_raw_fd(), ptr::null());
    // SAFETY: the array has room for one event, and a null pointer stands for
    // no signal mask.
    let ready = unsafe { libc::epoll_pwait(fd, &mut event, 1, timeout, mask) };
    match Errno::result(ready) {
        Ok(0) => Report::Nothing,
        Ok(_) => Report::Readable,
        Err(error) => Report::Error(error),
    }
}
