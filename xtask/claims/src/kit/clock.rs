//! Measures wall-clock time and processor time.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Returns how long `work` takes, in µs.
pub fn micros<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

/// Returns the mean time of one of `count` calls, in µs. One call is too short
/// for the clock.
pub fn mean_micros<T, E>(
    count: usize,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<f64, E> {
    let total = micros(|| (0..count).try_for_each(|_| call().map(drop)))?;
    Ok(total / count as f64)
}

/// Returns the processor time that this thread has used.
pub fn thread_cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Returns the processor time that all threads of a process have used.
pub fn process_cpu_time(pid: Pid) -> Result<Duration> {
    Ok(clock_getcpuclockid(pid)?.now()?.into())
}
