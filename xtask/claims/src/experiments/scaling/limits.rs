//! The limits on tasks: processes and threads together.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit};

use crate::claim::Effort;
use crate::kit::memory;

/// The available memory below which no further tasks are created, in KiB.
const ROOM: f64 = 1024.0 * 1024.0;

/// More than a client with its own process needs, in KiB.
const PER_CLIENT: f64 = 300.0;

/// Returns the least of the limits on tasks of the machine, of this user and of
/// this control group. See fork(2), EAGAIN.
pub fn tasks() -> Result<u64> {
    let mut limits = vec![getrlimit(Resource::RLIMIT_NPROC)?.0];
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_machine =
        ["threads-max", "pid_max"].map(|it| format!("/proc/sys/kernel/{it}"));
    // A group without a limit has the text `max`, or no file.
    for path in of_machine.into_iter().chain(files_of(&groups)) {
        let text = fs::read_to_string(path).unwrap_or_default();
        limits.extend(text.trim().parse::<u64>());
    }
    Ok(limits.into_iter().min().unwrap_or(u64::MAX))
}

/// Returns the files with the limits of a process's control groups, which are
/// in the lines of /proc/PID/cgroup as `ID:CONTROLLERS:PATH` (cgroups(7)). The
/// limit of each group that contains it counts too.
fn files_of(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let (root, path) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "", path] => ("/sys/fs/cgroup", path),
            [_, "pids", path] => ("/sys/fs/cgroup/pids", path),
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            let group = group.display().to_string();
            let group = group.trim_end_matches('/');
            files.push(format!("{root}{group}/pids.max"));
        }
    }
    files
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

/// Returns three numbers of clients, and fails if this machine can't have a
/// task for each.
pub fn clients(effort: Effort) -> Result<[usize; 3]> {
    let numbers = match effort {
        Effort::Full => [100, 1_000, 10_000],
        Effort::Short => [100, 400, 1_000],
    };
    ensure_allowed(numbers[2])?;
    memory::ensure_available(numbers[2] as f64 * PER_CLIENT)?;
    Ok(numbers)
}

/// Returns the limit on mappings per process. A thread's stack needs at least
/// one.
pub fn mappings() -> Result<u64> {
    let path = "/proc/sys/vm/max_map_count";
    Ok(fs::read_to_string(path)?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_above_limit_a_process_too() {
        assert_eq!(
            files_of("3:cpu:/\n2:pids:/\n0::/user.slice/a.scope\n"),
            [
                "/sys/fs/cgroup/pids/pids.max",
                "/sys/fs/cgroup/user.slice/a.scope/pids.max",
                "/sys/fs/cgroup/user.slice/pids.max",
                "/sys/fs/cgroup/pids.max",
            ]
        );
    }
}
