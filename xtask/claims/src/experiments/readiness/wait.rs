//! Waits in which nothing becomes ready, one function per system call. Each
//! returns how long it waited, in µs.

use std::os::fd::AsRawFd as _;
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lab::Unsupported;
use nix::errno::Errno;
use nix::poll::PollTimeout;
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use nix::sys::select;
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike as _};

/// Waits in select, for a number of µs.
pub fn select(timeout: Duration) -> Result<f64> {
    let mut timeout = TimeVal::microseconds(timeout.as_micros() as i64);
    expire(|| select::select(None, None, None, None, &mut timeout))
}

/// Waits in poll, for a number of ms.
pub fn poll(milliseconds: u16) -> Result<f64> {
    let timeout = PollTimeout::from(milliseconds);
    expire(|| nix::poll::poll(&mut [], timeout))
}

/// Waits in ppoll, for a number of ns.
pub fn ppoll(timeout: Duration) -> Result<f64> {
    let timeout = Some(TimeSpec::from_duration(timeout));
    expire(|| nix::poll::ppoll(&mut [], timeout, None))
}

/// Waits in epoll_wait, for a number of ms.
pub fn epoll_wait(epoll: &Epoll, milliseconds: u16) -> Result<f64> {
    let timeout = EpollTimeout::from(milliseconds);
    let mut events = [EpollEvent::empty()];
    expire(|| epoll.wait(&mut events, timeout).map(|ready| ready as i32))
}

/// Waits in epoll_pwait2, for a number of ns.
///
/// # Errors
///
/// [`Unsupported`] if the kernel doesn't have this system call.
pub fn epoll_pwait2(epoll: &Epoll, timeout: Duration) -> Result<f64> {
    let timeout = TimeSpec::from_duration(timeout);
    let mut events = [EpollEvent::empty()];
    let result = expire(|| {
        // SAFETY: the array has room for one event, the timeout outlives the
        // call, and a null pointer stands for no signal mask.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll.0.as_raw_fd(),
                events.as_mut_ptr(),
                1,
                ptr::from_ref(timeout.as_ref()),
                ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        Errno::result(ready).map(|ready| ready as i32)
    });
    match result {
        Err(error) if error.downcast_ref() == Some(&Errno::ENOSYS) => {
            bail!(Unsupported::Tool("there is no epoll_pwait2".to_owned()))
        }
        result => result,
    }
}

/// Times a call that must end because its timeout expires.
fn expire(call: impl FnOnce() -> nix::Result<i32>) -> Result<f64> {
    let start = Instant::now();
    let ready = call()?;
    let waited = start.elapsed();
    ensure!(ready == 0, "a descriptor is ready");
    Ok(waited.as_secs_f64() * 1e6)
}
