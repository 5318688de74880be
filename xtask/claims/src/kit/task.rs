//! Threads of this process, as /proc/self/task shows them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::process::{Process, poll_until};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, getpid};

use crate::kit::net::PATIENCE;

/// Returns whether a thread sleeps in this system call. The kernel shows the
/// call's number in /proc/PID/task/TID/syscall while the thread sleeps.
pub fn sleeps_in(tid: Pid, call: libc::c_long) -> Result<bool> {
    let path = format!("/proc/self/task/{tid}/syscall");
    let shown = fs::read_to_string(&path).context(path)?;
    Ok(shown.split(' ').next() == Some(&call.to_string()))
}

/// Waits until a thread sleeps in this system call.
pub fn wait_until_asleep(tid: Pid, call: libc::c_long) -> Result<()> {
    let awaited = "thread that sleeps in its call";
    poll_until(awaited, PATIENCE, || sleeps_in(tid, call))
}

/// Returns the number of threads of this process.
pub fn count() -> Result<usize> {
    let process = Process::read(getpid()).context("/proc/self/stat")?;
    Ok(process.threads)
}

/// Moves the calling thread to one processor.
pub fn run_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("sched_setaffinity")
}

/// Returns how long the calling thread has been ready to run while another one
/// had the processor: the second number of /proc/PID/schedstat.
pub fn time_in_run_queue() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let shown = fs::read_to_string(path).context(path)?;
    let delay = shown.split_whitespace().nth(1).context(path)?;
    Ok(Duration::from_nanos(delay.parse()?))
}
