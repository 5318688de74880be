//! Ten thousand threads at the same time: whether they start, how long that
//! takes and what they cost.

use std::fs;
use std::sync::{Arc, RwLock};
use std::thread;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lab::Unsupported;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "ten-thousand-threads",
    claim: "An operating system can't bear 10,000 threads.",
    section: "The C10K problem",
    criterion: "10,000 threads are started, which all wait. False if all of \
                them exist at the same time. True if one can't be started.",
    if_false: History::WasTrue,
    sources: &[
        "pthread_create(3), Errors",
        "http://www.kegel.com/c10k.html, on the limits of threads in 1999",
        "Documentation/admin-guide/sysctl/kernel.rst, threads-max, pid_max",
    ],
    explanation: "A waiting thread costs its kernel stack and the touched \
                  pages of its own stack, and the scheduler does not look at \
                  it. What remains of the problem is that memory, and the cost \
                  of the switches when many threads become active at once.",
    run,
    file: file!(),
};

/// Enough for a thread that waits; it is reserved, not touched.
const STACK: usize = 64 * 1024;

/// Do not start threads below this much free memory, in KiB.
const ENOUGH: f64 = 2.0 * 1024.0 * 1024.0;

fn run(effort: Effort) -> Result<Finding> {
    let wanted = effort.pick(10_000, 500);
    let before = available()?;
    if before < ENOUGH {
        bail!(Unsupported::Tool("less than 2 GiB of memory".to_owned()));
    }
    let start = Instant::now();
    // A thread holds the gate until all have been counted.
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().ok();
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while threads.len() < wanted {
        let gate = Arc::clone(&gate);
        let thread = thread::Builder::new().stack_size(STACK);
        let Ok(thread) = thread.spawn(move || drop(gate.read())) else { break };
        threads.push(thread);
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    let alive = fs::read_dir("/proc/self/task")?.count() - 1;
    let used = (before - available()?) / alive as f64;
    drop(closed);
    for thread in threads {
        thread.join().ok().context("a thread panicked")?;
    }
    Ok(Finding::new(
        judge(alive, wanted),
        [
            Figure::new("threads at the same time", "", alive),
            Figure::new("time to start them", "ms", took),
            Figure::new("memory per thread", "KiB", used),
        ],
    ))
}

/// Returns the machine's available memory in KiB.
fn available() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:"));
    let number = line.and_then(|it| it.split_whitespace().next());
    Ok(number.context("MemAvailable is missing")?.parse()?)
}

fn judge(alive: usize, wanted: usize) -> Answer {
    Answer::from_bool(alive < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_start_makes_it_true() {
        assert_eq!(judge(10_000, 10_000), Answer::False);
        assert_eq!(judge(9_999, 10_000), Answer::True);
    }
}
