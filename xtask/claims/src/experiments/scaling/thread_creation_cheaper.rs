//! A thread shares its creator's memory, so the kernel has less to set up than
//! for a child process.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use lab::process::{Process, poll_until};
use nix::unistd::getpid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{child::Child, clock, memory, net::PATIENCE};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "thread-creation-cheaper",
    claim: "A thread is lighter than a process.",
    section: "How a server serves more, threads",
    criterion: "True if creating a process, ending it and waiting for its end \
                takes more than 1.5 times as long as the same with a thread, \
                and a sleeping process has more than 1.5 times as much memory \
                of its own. False if both are at most 1.5 times as much.",
    if_false: History::NeverTrue,
    sources: &["clone(2)", "pthreads(7)", "proc_pid_smaps(5)"],
    explanation: "Both are tasks for the kernel: each has a kernel stack and \
                  is scheduled. A process also gets its own page tables, which \
                  fork copies entry by entry and exit frees, and its own \
                  copies of the pages to which it writes. This process is \
                  small; a larger one makes fork more expensive, but not the \
                  creation of a thread.",
    run,
    file: file!(),
};

/// Tasks per measurement.
const TASKS: usize = 32;

fn run(effort: Effort) -> Result<Finding> {
    let mut processes = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..effort.pick(41, 5) {
        processes
            .push(clock::mean_micros(TASKS, || Child::start(|| 0)?.succeed())?);
        threads.push(clock::mean_micros(TASKS, || {
            let thread = thread::Builder::new().spawn(|| ())?;
            thread.join().map_err(|_| anyhow!("the thread panicked"))
        })?);
    }
    let (process, thread) = (Sample::new(processes), Sample::new(threads));
    let (of_process, of_thread) = (process_memory()?, thread_memory()?);
    let time = process.ratio(&thread);
    let memory = Sample::from(of_process / of_thread);
    Ok(Finding::new(
        judge(&time, &memory),
        [
            Figure::new("process / thread, time", "times", time),
            Figure::new("process / thread, memory", "times", memory),
            Figure::new("creating and ending a process", "µs", process),
            Figure::new("creating and ending a thread", "µs", thread),
            Figure::new(
                "pages and page tables of a process",
                "KiB",
                of_process,
            ),
            Figure::new("pages and page tables of a thread", "KiB", of_thread),
        ],
    ))
}

/// Returns the memory of a sleeping child's own, in KiB. The kernel's objects
/// aren't part of it: both have them.
fn process_memory() -> Result<f64> {
    let children = (0..TASKS).map(|_| Child::asleep());
    let children = children.collect::<Result<Vec<_>>>()?;
    let mut total = 0.0;
    for child in &children {
        poll_until("sleeping child", PATIENCE, || {
            let process = Process::read(child.pid());
            Ok(process.is_some_and(|process| process.state == 'S'))
        })?;
        total += memory::private(child.pid())?;
    }
    Ok(total / children.len() as f64)
}

/// Returns by how much each sleeping thread increases this process's memory, in
/// KiB.
fn thread_memory() -> Result<f64> {
    let (gate, started) = (RwLock::new(()), AtomicUsize::new(0));
    let before = memory::private(getpid())?;
    let during = thread::scope(|scope| {
        let closed = gate.write();
        for _ in 0..TASKS {
            thread::Builder::new().spawn_scoped(scope, || {
                started.fetch_add(1, Ordering::Relaxed);
                drop(gate.read());
            })?;
        }
        poll_until("sleeping threads", PATIENCE, || {
            Ok(started.load(Ordering::Relaxed) == TASKS)
        })?;
        let during = memory::private(getpid());
        drop(closed);
        during
    })?;
    Ok((during - before) / TASKS as f64)
}

/// Judges a process's time and memory in terms of a thread's.
fn judge(time: &Sample, memory: &Sample) -> Answer {
    match (time.is_above(1.5), memory.is_above(1.5)) {
        (Answer::True, Answer::True) => Answer::True,
        (Answer::False, Answer::False) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_time_and_memory_decide() {
        let answer = |time: &[f64], memory: f64| {
            judge(&Sample::new(time.to_vec()), &Sample::from(memory))
        };
        assert_eq!(answer(&[2.0, 3.0, 4.0], 9.0), Answer::True);
        assert_eq!(answer(&[1.0, 1.2, 1.4], 1.1), Answer::False);
        assert_eq!(answer(&[1.0, 2.0, 3.0], 9.0), Answer::Undecided);
        assert_eq!(answer(&[2.0, 3.0, 4.0], 1.1), Answer::Undecided);
    }
}
