//! 10,000 processes that sleep at the same time, as a server that forks per
//! connection has them.

use std::time::Instant;

use anyhow::Result;
use lab::process::{Process, poll_until};

use super::limits;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{child::Child, memory, net::PATIENCE};

pub const CLAIM: Claim = Claim {
    id: "ten-thousand-processes",
    claim: "A machine can't have 10,000 processes, one per connection.",
    section: "How a server serves more, C10K",
    criterion: "False if 10,000 children sleep at the same time, as /proc \
                shows them (100 in a short run). True if fork fails before.",
    if_false: History::WasTrue,
    sources: &[
        "fork(2)",
        "proc_pid_stat(5)",
        "include/linux/tasks.h of Linux 2.2: NR_TASKS",
    ],
    explanation: "Linux 2.2 had a fixed number of tasks, on x86 about 4,000 at \
                  most (its include/linux/tasks.h). Today memory is the limit: \
                  a sleeping process needs page tables, a kernel stack and the \
                  pages that it has written, but no processor time. That is \
                  several times as much as a thread needs, and far more than a \
                  connection in an epoll loop.",
    run,
    file: file!(),
};

/// The costs of the children.
#[derive(Debug)]
struct Crowd {
    /// How many slept at the end.
    sleeping: usize,
    create: f64,
    end: f64,
    /// The kernel's memory for all, page tables included, and the private
    /// memory of one, in KiB.
    memory: [f64; 2],
}

fn run(effort: Effort) -> Result<Finding> {
    let wanted = effort.pick(10_000, 100);
    limits::ensure_allowed(wanted)?;
    let crowd = sleep_together(wanted)?;
    let each = |value: f64| value / crowd.sleeping.max(1) as f64;
    let figures = [
        Figure::new("sleeping processes", "", crowd.sleeping),
        Figure::new("creating one", "µs", each(crowd.create * 1e6)),
        Figure::new("ending one", "µs", each(crowd.end * 1e6)),
        Figure::new("kernel memory for one", "KiB", each(crowd.memory[0])),
        Figure::new("its pages and page tables", "KiB", crowd.memory[1]),
        Figure::new("lowest limit on tasks", "", limits::tasks()? as f64),
    ];
    Ok(Finding::new(judge(crowd.sleeping, wanted), figures))
}

/// Creates children until all are there, or until fork fails.
fn sleep_together(wanted: usize) -> Result<Crowd> {
    let before = memory::of_tasks()?;
    let start = Instant::now();
    let mut children = Vec::with_capacity(wanted);
    while children.len() < wanted {
        if children.len().is_multiple_of(500) {
            limits::ensure_room()?;
        }
        let Ok(child) = Child::asleep() else { break };
        children.push(child);
    }
    let create = start.elapsed().as_secs_f64();
    let mut sleeping = 0;
    for child in &children {
        poll_until("sleeping child", PATIENCE, || Ok(is_asleep(child)))?;
        sleeping += 1;
    }
    let kernel = memory::of_tasks()? - before;
    let private = match children.last() {
        Some(child) => memory::private(child.pid())?,
        None => 0.0,
    };
    let start = Instant::now();
    Child::end_all(children);
    let end = start.elapsed().as_secs_f64();
    Ok(Crowd { sleeping, create, end, memory: [kernel, private] })
}

fn is_asleep(child: &Child) -> bool {
    Process::read(child.pid()).is_some_and(|process| process.state == 'S')
}

fn judge(sleeping: usize, wanted: usize) -> Answer {
    Answer::from_bool(sleeping < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_missing_makes_it_true() {
        assert_eq!(judge(10_000, 10_000), Answer::False);
        assert_eq!(judge(9_999, 10_000), Answer::True);
    }
}
