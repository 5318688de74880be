//! How long calls with a timeout of 100 µs really wait, for the two claims
//! about the precision of timeouts.

use std::os::fd::AsRawFd as _;
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollTimeout, poll, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::select::select;
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike as _};

use crate::claim::Effort;
use crate::sample::Sample;

/// The timeout, in µs.
pub const TIMEOUT: f64 = 100.0;

/// The times that the calls took, in µs, call by call in turn.
#[derive(Debug)]
pub struct Waits {
    pub select: Sample,
    /// With 1 ms, the least that its argument can express.
    pub poll: Sample,
    pub ppoll: Sample,
    /// With 1 ms, as poll.
    pub epoll_wait: Sample,
    pub epoll_pwait2: Sample,
}

impl Waits {
    pub fn measure(effort: Effort) -> Result<Self> {
        let flags = EpollCreateFlags::EPOLL_CLOEXEC;
        let epoll = Epoll::new(flags).context("epoll_create1")?;
        let mut events = [EpollEvent::empty()];
        let mut waits = [const { Vec::new() }; 5];
        for _ in 0..effort.pick(300, 20) {
            let calls: [&mut dyn FnMut() -> nix::Result<i32>; 5] = [
                &mut || {
                    let mut timeout = TimeVal::microseconds(TIMEOUT as i64);
                    select(Some(0), None, None, None, &mut timeout)
                },
                &mut || poll(&mut [], PollTimeout::from(1_u8)),
                &mut || {
                    let timeout = TimeSpec::from_duration(timeout());
                    ppoll(&mut [], Some(timeout), None)
                },
                &mut || {
                    let timeout = EpollTimeout::from(1_u8);
                    epoll.wait(&mut events, timeout).map(|it| it as i32)
                },
                &mut || epoll_pwait2(&epoll),
            ];
            for (call, waits) in calls.into_iter().zip(&mut waits) {
                let start = Instant::now();
                call().context("a wait")?;
                waits.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        let [select, poll, ppoll, epoll_wait, epoll_pwait2] =
            waits.map(Sample::new);
        Ok(Self { select, poll, ppoll, epoll_wait, epoll_pwait2 })
    }
}

fn timeout() -> Duration {
    Duration::from_micros(TIMEOUT as u64)
}

/// Waits with a timeout in nanoseconds. The C library has no function for it
/// everywhere.
fn epoll_pwait2(epoll: &Epoll) -> nix::Result<i32> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let timeout = TimeSpec::from_duration(timeout());
    let descriptor = epoll.0.as_raw_fd();
    // SAFETY: one event has room in the array, the timeout lives until the call
    // returns, and without a mask its size is ignored.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            descriptor,
            &raw mut event,
            1,
            ptr::from_ref(timeout.as_ref()),
            ptr::null::<libc::sigset_t>(),
            0_usize,
        )
    };
    Errno::result(ready).map(|it| it as i32)
}
