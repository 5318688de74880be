//! The resources that a server uses, as the kernel accounts for them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::process::{self, Process};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// The resources that all processes of a server have used since their start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time by the scheduler's clock, in nanoseconds; of ended processes,
    /// by the kernel's tick-based accounting.
    pub cpu: Duration,
    pub user: Duration,
    pub system: Duration,
    /// Voluntary and involuntary context switches of existing threads.
    pub switches: u64,
    pub threads: usize,
    pub processes: usize,
}

impl Usage {
    /// Reads every process of a group. That is slow for thousands of processes,
    /// so call it while no request is outstanding.
    pub fn of_group(leader: Pid) -> Self {
        let processes = process::group(leader);
        let mut usage = Self::default();
        for process in &processes {
            usage.add(process);
            if process.pid == leader {
                // The children that it has reaped.
                usage.cpu += process.reaped.0 + process.reaped.1;
                usage.user += process.reaped.0;
                usage.system += process.reaped.1;
            }
        }
        usage
    }

    /// Adds the difference between two readings. Threads and processes are
    /// those of the second.
    pub fn grow(&mut self, before: Self, after: Self) {
        self.cpu += after.cpu.saturating_sub(before.cpu);
        self.user += after.user.saturating_sub(before.user);
        self.system += after.system.saturating_sub(before.system);
        self.switches += after.switches.saturating_sub(before.switches);
        self.threads = after.threads;
        self.processes = after.processes;
    }

    fn add(&mut self, process: &Process) {
        self.cpu += scheduled(process.pid).unwrap_or_default();
        self.user += process.user;
        self.system += process.system;
        self.threads += process.threads;
        self.processes += 1;
        for thread in process.thread_ids() {
            let path = format!("/proc/{}/task/{thread}/status", process.pid);
            self.switches += switches(&path).unwrap_or(0);
        }
    }
}

/// Reads the CPU time of all threads of a process, ended ones included.
fn scheduled(pid: Pid) -> Option<Duration> {
    let clock = clock_getcpuclockid(pid).ok()?;
    Some(clock.now().ok()?.into())
}

/// Reads a thread's voluntary and involuntary context switches.
fn switches(path: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let lines = status.lines().filter(|l| l.contains("_ctxt_switches:"));
    lines.map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// The memory that connections use, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Memory of the server's processes: proportional set size without file
    /// pages.
    pub processes: u64,
    /// Memory of the whole kernel: unreclaimable slab, thread stacks, page
    /// tables, and socket queues.
    pub kernel: u64,
}

impl Memory {
    pub fn of_group(leader: Pid) -> Result<Self> {
        Ok(Self { processes: process::group_memory(leader), kernel: kernel()? })
    }
}

/// The lines of /proc/meminfo that grow with connections.
const PARTS: [&str; 4] =
    ["SUnreclaim:", "KernelStack:", "PageTables:", "SecPageTables:"];

fn kernel() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    Ok(counted(&text) + queued()?)
}

/// Adds up the [`PARTS`] of /proc/meminfo, in bytes.
fn counted(meminfo: &str) -> u64 {
    let of = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        let counts = PARTS.contains(&words.next()?);
        counts.then(|| words.next()?.parse().ok())?
    };
    meminfo.lines().filter_map(of).sum::<u64>() * 1024
}

/// Returns the memory of TCP's socket buffers, in bytes: the field `mem` of
/// /proc/net/sockstat is in pages.
fn queued() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")
        .context("/proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"));
    let mut words = line.unwrap_or("").split_whitespace();
    let pages = words.find(|word| *word == "mem").and(words.next());
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?;
    Ok(pages * size.unwrap_or(4096).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_usage_within_turns_adds_up() {
        let at = |milliseconds, switches| Usage {
            cpu: Duration::from_millis(milliseconds),
            user: Duration::from_millis(milliseconds / 4),
            system: Duration::from_millis(milliseconds / 2),
            switches,
            threads: 3,
            processes: 1,
        };
        let mut usage = Usage::default();
        usage.grow(at(40, 10), at(60, 12));
        usage.grow(at(100, 20), at(120, 25));
        assert_eq!(usage.cpu, Duration::from_millis(40));
        assert_eq!(usage.user, Duration::from_millis(10));
        assert_eq!(usage.system, Duration::from_millis(20));
        assert_eq!(usage.switches, 7);
        assert_eq!((usage.threads, usage.processes), (3, 1));
    }

    /// Runs a shell that leads a group. Its child uses CPU time and ends while
    /// the shell waits for input.
    #[test]
    fn children_that_ended_are_counted() {
        let script = "sh -c 'i=0; while [ $i -lt 200000 ]; do \
             i=$((i+1)); done'; echo done; read line";
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let mut line = [0; 5];
        shell.stdout.take().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"done\n");
        let leader = Pid::from_raw(shell.id().cast_signed());
        let usage = Usage::of_group(leader);
        // EOF ends the shell.
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(usage.processes, 1);
        assert!(usage.cpu > Duration::from_millis(50), "{usage:?}");
        let parts = usage.user + usage.system;
        assert!(parts > Duration::from_millis(40), "{usage:?}");
    }

    #[test]
    fn waiting_is_a_switch() {
        let thread = nix::unistd::gettid();
        let path = format!("/proc/self/task/{thread}/status");
        let before = switches(&path).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(switches(&path).unwrap() > before);
    }

    #[test]
    fn what_grows_with_connections_is_counted() {
        let meminfo = "MemTotal: 9 kB\nSlab: 70 kB\nSReclaimable: 50 kB\n\
             SUnreclaim: 20 kB\nKernelStack: 4 kB\nPageTables: 2 kB\n\
             SecPageTables: 1 kB\n";
        assert_eq!(counted(meminfo), 27 * 1024);
        // This kernel has these lines, except that older ones lack
        // SecPageTables, and it has TCP's counter.
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let known = PARTS.iter().filter(|part| text.contains(**part));
        assert!(known.count() >= 3, "{text}");
        queued().unwrap();
    }
}
