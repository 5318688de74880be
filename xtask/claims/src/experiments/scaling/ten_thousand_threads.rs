//! 10,000 threads that sleep at the same time: what the kernel needs for them.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use lab::process::{Process, poll_until};
use nix::unistd::getpid;

use super::limits;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{memory, net::PATIENCE};

pub const CLAIM: Claim = Claim {
    id: "ten-thousand-threads",
    claim: "A machine can't have 10,000 threads, one per connection.",
    section: "How a server serves more, threads",
    criterion: "False if 10,000 threads of a process sleep at the same time, \
                as the kernel counts them (100 in a short run). True if \
                creating one of them fails.",
    if_false: History::WasTrue,
    sources: &[
        "clone(2)",
        "pthread_create(3)",
        "include/linux/tasks.h of Linux 2.2: NR_TASKS",
    ],
    explanation: "Linux 2.2 had a fixed number of tasks, on x86 about 4,000 at \
                  most (its include/linux/tasks.h), and a thread is a task. \
                  Today a sleeping thread needs a kernel stack and the touched \
                  pages of its own stack, whose other pages are only reserved \
                  addresses. The memory of a small machine holds 10,000 of \
                  them, if the limits on tasks and on mappings allow it.",
    run,
    file: file!(),
};

/// The size of a thread's stack. The default of 2 MiB only reserves more.
const STACK: usize = 64 << 10;

/// The costs of the threads.
#[derive(Debug)]
struct Crowd {
    /// How many the kernel counted.
    threads: usize,
    seconds: f64,
    /// The process's resident memory and the kernel's for tasks, in KiB.
    memory: [f64; 2],
}

fn run(effort: Effort) -> Result<Finding> {
    let wanted = effort.pick(10_000, 100);
    limits::ensure_allowed(wanted)?;
    let crowd = sleep_together(wanted)?;
    let per_thread = |value: f64| value / crowd.threads.max(1) as f64;
    let [resident, kernel] = crowd.memory.map(per_thread);
    let figures = [
        Figure::new("sleeping threads", "", crowd.threads),
        Figure::new("creating one", "µs", per_thread(crowd.seconds * 1e6)),
        Figure::new("resident memory of one", "KiB", resident),
        Figure::new("kernel memory for one", "KiB", kernel),
        Figure::new("lowest limit on tasks", "", limits::tasks()? as f64),
        Figure::new("limit on mappings", "", limits::mappings()? as f64),
    ];
    Ok(Finding::new(judge(crowd.threads, wanted), figures))
}

/// Creates threads that sleep until all are there, or until one fails.
fn sleep_together(wanted: usize) -> Result<Crowd> {
    // A thread sleeps because it waits for a lock that is held meanwhile.
    let (gate, started) = (RwLock::new(()), AtomicUsize::new(0));
    let before = memory()?;
    thread::scope(|scope| {
        let closed = gate.write();
        let start = Instant::now();
        let mut created = 0;
        while created < wanted {
            if created.is_multiple_of(500) {
                limits::ensure_room()?;
            }
            let thread = thread::Builder::new().stack_size(STACK);
            let sleep = || {
                started.fetch_add(1, Ordering::Relaxed);
                drop(gate.read());
            };
            if thread.spawn_scoped(scope, sleep).is_err() {
                break;
            }
            created += 1;
        }
        poll_until("start of all threads", PATIENCE, || {
            Ok(started.load(Ordering::Relaxed) == created)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let after = memory()?;
        let threads = Process::read(getpid()).map_or(0, |it| it.threads - 1);
        drop(closed);
        let memory = [after[0] - before[0], after[1] - before[1]];
        Ok(Crowd { threads, seconds, memory })
    })
}

fn memory() -> Result<[f64; 2]> {
    Ok([memory::of_process(getpid(), "VmRSS")?, memory::of_tasks()?])
}

fn judge(threads: usize, wanted: usize) -> Answer {
    Answer::from_bool(threads < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_missing_makes_it_true() {
        assert_eq!(judge(10_000, 10_000), Answer::False);
        assert_eq!(judge(9_999, 10_000), Answer::True);
    }
}
