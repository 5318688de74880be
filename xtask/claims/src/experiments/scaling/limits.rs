//! The limits on tasks: processes and threads together.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit};

use crate::kit::memory;

/// The available memory below which no further tasks are created, in KiB.
const ROOM: f64 = 1024.0 * 1024.0;

/// Returns the least of the limits on tasks of the machine, of this user and of
/// this control group. See fork(2), EAGAIN.
pub fn tasks() -> Result<u64> {
    let mut limits = vec![getrlimit(Resource::RLIMIT_NPROC)?.0];
    // The last two are those of control groups, version 2 and version 1. A
    // group without a limit has the text `max`, or no file.
    for path in [
        "/proc/sys/kernel/threads-max",
        "/proc/sys/kernel/pid_max",
        "/sys/fs/cgroup/pids.max",
        "/sys/fs/cgroup/pids/pids.max",
    ] {
        let text = fs::read_to_string(path).unwrap_or_default();
        limits.extend(text.trim().parse::<u64>());
    }
    Ok(limits.into_iter().min().unwrap_or(u64::MAX))
}

/// Fails if a setting, not the machine, forbids this many tasks.
pub fn ensure_allowed(wanted: usize) -> Result<()> {
    let limit = tasks()?;
    let why = format!("the limit on tasks is {limit}, below {wanted}");
    ensure!(limit > wanted as u64, lab::Unsupported::Tool(why));
    Ok(())
}

/// Fails if too little memory is available for more tasks.
pub fn ensure_room() -> Result<()> {
    memory::ensure_available(ROOM)
}

/// Returns the limit on mappings per process. A thread's stack needs at least
/// one.
pub fn mappings() -> Result<u64> {
    let path = "/proc/sys/vm/max_map_count";
    Ok(fs::read_to_string(path)?.trim().parse()?)
}
