//! The limits on tasks: processes and threads together.

use std::fs;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit};

use crate::kit::memory;

/// The memory that must remain available for the rest of the machine, in KiB.
const ROOM: f64 = 1024.0 * 1024.0;

/// Returns the least of the limits on tasks of the machine, of this user and of
/// this control group. clone(2) has a list of them.
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

/// Fails if less than 1 GiB of memory is available.
pub fn ensure_room() -> Result<()> {
    memory::ensure_available(ROOM)
}

/// Returns the limit on mappings per process. A thread's stack needs at least
/// one.
pub fn mappings() -> Result<u64> {
    let path = "/proc/sys/vm/max_map_count";
    Ok(fs::read_to_string(path)?.trim().parse()?)
}
