//! Processes as /proc shows them: their state, cost and end. A server and its
//! children form one process group, whose leader is the server.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, fs, io, ptr};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid};

/// One process, as /proc/PID/stat shows it.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: Pid,
    pub name: String,
    /// `R`, `S`, `D`, `T`, `Z`: see proc_pid_stat(5).
    pub state: char,
    pub group: Pid,
    /// User and system CPU time of all its threads, ended ones included.
    pub user: Duration,
    pub system: Duration,
    /// User and system CPU time of the children that it has waited for.
    pub reaped: (Duration, Duration),
    pub threads: usize,
    /// When it was started, since the machine was.
    pub started: Duration,
}

impl Process {
    /// Reads /proc/PID/stat. Returns None if the process doesn't exist.
    pub fn read(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain blanks and brackets; the last bracket ends it.
        let (head, tail) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<_> = tail.split(' ').collect();
        let number =
            |field: usize| -> Option<u64> { fields.get(field)?.parse().ok() };
        Some(Self {
            pid,
            name,
            state: fields.first()?.chars().next()?,
            group: Pid::from_raw(fields.get(2)?.parse().ok()?),
            user: ticks(number(11)?),
            system: ticks(number(12)?),
            reaped: (ticks(number(13)?), ticks(number(14)?)),
            threads: usize::try_from(number(17)?).ok()?,
            started: ticks(number(19)?),
        })
    }

    /// Returns the ids of its threads.
    pub fn thread_ids(&self) -> Vec<u64> {
        numbers_in(&format!("/proc/{}/task", self.pid))
    }

    /// Returns how many times its threads have given up the processor to wait.
    pub fn waits(&self) -> Result<usize> {
        let mut total = 0;
        for tid in self.thread_ids() {
            let path = format!("/proc/{}/task/{tid}/status", self.pid);
            let status = fs::read_to_string(&path).context(path)?;
            let name = "voluntary_ctxt_switches:";
            let mut lines = status.lines();
            let count = lines.find_map(|line| line.strip_prefix(name));
            total += count.context(name)?.trim().parse::<usize>()?;
        }
        Ok(total)
    }

    /// Returns the ids of its threads that wait in one of these system calls.
    /// That requires the permission to trace the process, see ptrace(2).
    pub fn threads_in(&self, calls: &[i64]) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for tid in self.thread_ids() {
            let path = format!("/proc/{}/task/{tid}/syscall", self.pid);
            // A number and arguments, or `running`.
            let text = fs::read_to_string(&path).context(path)?;
            let number = text.split_whitespace().next();
            let number = number.and_then(|it| it.parse().ok());
            if number.is_some_and(|it| calls.contains(&it)) {
                found.push(tid);
            }
        }
        Ok(found)
    }

    /// Returns the number of its open descriptors.
    pub fn descriptors(&self) -> usize {
        numbers_in(&format!("/proc/{}/fd", self.pid)).len()
    }

    /// Returns its limits on open files, soft and hard.
    pub fn descriptor_limit(&self) -> Result<(u64, u64)> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid))?;
        let line =
            limits.lines().find_map(|l| l.strip_prefix("Max open files"));
        let mut numbers =
            line.unwrap_or_default().split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(soft)), Some(Ok(hard))) => Ok((soft, hard)),
            _ => bail!("no limits on open files in:\n{limits}"),
        }
    }

    /// Returns whether a process-directed signal is pending.
    pub fn has_pending(&self, signal: Signal) -> Result<bool> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("ShdPnd:"))
            .context("no ShdPnd in /proc/PID/status")?;
        let mask = u64::from_str_radix(mask.trim(), 16).context("ShdPnd")?;
        Ok(mask & (1 << (signal as i32 - 1)) != 0)
    }

    /// Returns its proportional set size (PSS) without file pages, in bytes. A
    /// page that a child shares with its parent counts once. File pages don't
    /// count, because the program's share depends on how many processes run it.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let Ok(rollup) = fs::read_to_string(path) else { return 0 };
        let field = |name: &str| -> Option<u64> {
            let line = rollup.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let total = field("Pss:").unwrap_or(0);
        total.saturating_sub(field("Pss_File:").unwrap_or(0)) * 1024
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, state, threads, .. } = self;
        write!(f, "{name} ({pid}, state {state}, {threads} threads)")
    }
}

/// Returns the processors that a thread may run on, in ascending order. /proc
/// has them as `0-2,5`, see proc_pid_status(5).
pub fn allowed_processors(pid: Pid, tid: Pid) -> Result<Vec<usize>> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status"))?;
    let name = "Cpus_allowed_list:";
    let list = status.lines().find_map(|line| line.strip_prefix(name));
    let mut processors = Vec::new();
    for part in list.context("no list of processors")?.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse()?, last.parse()?);
        processors.extend(first..=last);
    }
    Ok(processors)
}

/// Describes the processes in one line.
pub fn list(processes: &[Process]) -> String {
    let processes: Vec<_> = processes.iter().map(Process::to_string).collect();
    processes.join(", ")
}

/// Returns the processes of a group, zombies included. getpgid(2) is much
/// cheaper than a file of /proc, so only files of the group are read.
pub fn group(leader: Pid) -> Vec<Process> {
    let numbers = numbers_in("/proc").into_iter();
    let pids = numbers.filter_map(|pid| pid.try_into().ok().map(Pid::from_raw));
    pids.filter(|pid| getpgid(Some(*pid)) == Ok(leader))
        .filter_map(Process::read)
        .filter(|process| process.group == leader)
        .collect()
}

/// Returns the proportional set size of a whole group, in bytes.
pub fn group_memory(leader: Pid) -> u64 {
    group(leader).iter().map(Process::memory).sum()
}

/// Returns the CPU time that a group's existing processes have used.
pub fn group_cpu_time(leader: Pid) -> Duration {
    group(leader).iter().map(|p| p.user + p.system).sum()
}

/// Converts clock ticks. USER_HZ is 100 on every architecture that Linux still
/// supports, except alpha, see time(7).
fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

/// Returns whether any process of a group exists, zombies included.
pub fn group_exists(leader: Pid) -> bool {
    killpg(leader, None::<Signal>) != Err(Errno::ESRCH)
}

/// Kills a group, and reaps its leader and the orphans that the kernel has
/// reparented to this process (PR_SET_CHILD_SUBREAPER).
pub fn end_group(leader: Pid) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while killpg(leader, Signal::SIGKILL).is_ok() && Instant::now() < deadline {
        reap_group(leader);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reaps the zombies of a group.
pub fn reap_group(leader: Pid) {
    let ended = Pid::from_raw(-leader.as_raw());
    while let Ok(status) = waitpid(ended, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Polls until `look` returns true, for a condition that no event reports.
pub fn poll_until(
    awaited: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !look().with_context(|| format!("while waiting for {awaited}"))? {
        ensure!(Instant::now() < deadline, "no {awaited} within {patience:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Opens a descriptor that becomes readable when the process ends, see
/// pidfd_open(2).
pub fn pidfd(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("pidfd_open");
    }
    let fd = i32::try_from(fd).context("pidfd_open")?;
    // SAFETY: the kernel has just returned this descriptor, which nothing else
    // owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the soft limit on a running process's address space, or to its present
/// size if `limit` is None, and returns the previous limit.
pub fn limit_address_space(pid: Pid, limit: Option<u64>) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kilobytes = size.and_then(|size| size.split_whitespace().next());
    let size = kilobytes.context("no VmSize")?.parse::<u64>()? * 1024;
    limit_running(pid, libc::RLIMIT_AS, limit.unwrap_or(size))
}

/// Sets the soft limit on signals queued for a running process, and returns the
/// previous limit.
pub fn limit_signals(pid: Pid, limit: u64) -> Result<u64> {
    limit_running(pid, libc::RLIMIT_SIGPENDING, limit)
}

/// Sets the soft limit on the descriptors of a running process, and returns the
/// previous limit.
pub fn limit_descriptors(pid: Pid, limit: u64) -> Result<u64> {
    limit_running(pid, libc::RLIMIT_NOFILE, limit)
}

fn limit_running(
    pid: Pid,
    resource: libc::__rlimit_resource_t,
    soft: u64,
) -> Result<u64> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct outlives the call, which fills it.
    let result = unsafe {
        libc::prlimit(pid.as_raw(), resource, ptr::null(), &raw mut before)
    };
    Errno::result(result).context("prlimit")?;
    let wanted = libc::rlimit { rlim_cur: soft, ..before };
    // SAFETY: the struct outlives the call.
    let result = unsafe {
        libc::prlimit(
            pid.as_raw(),
            resource,
            &raw const wanted,
            ptr::null_mut(),
        )
    };
    Errno::result(result).context("prlimit")?;
    Ok(before.rlim_cur)
}

/// Waits until a descriptor is readable, at EOF or in error. Returns false at
/// the deadline.
pub fn wait_readable(fd: &impl AsFd, deadline: Instant) -> Result<bool> {
    wait_for(fd, PollFlags::POLLIN, deadline)
}

/// Waits until one of the events occurs. Returns false at the deadline.
pub fn wait_for(
    fd: &impl AsFd,
    events: PollFlags,
    deadline: Instant,
) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left + Duration::from_millis(1))
            .context("a deadline within poll(2)'s range")?;
        let mut fds = [PollFd::new(fd.as_fd(), events)];
        match nix::poll::poll(&mut fds, left) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => continue,
            Err(error) => bail!("poll {}: {error}", fd.as_fd().as_raw_fd()),
        }
    }
}

/// Returns a folder's entries that are numbers, because /proc lists processes,
/// threads and descriptors by number.
fn numbers_in(folder: &str) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Finds the first program of this name on the PATH.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH");
    let path = path.as_deref().unwrap_or(OsStr::new(""));
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Raises the soft limit on open files to the hard limit, for thousands of
/// clients at the same time.
pub fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .context("raising the limit on open files")
}
