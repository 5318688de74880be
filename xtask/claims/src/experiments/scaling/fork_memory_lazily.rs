//! fork copies the page tables and shares the pages. A page is copied when one
//! of the processes writes to it first: copy-on-write.

use std::hint::black_box;

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::getpid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child::{self, Child};
use crate::kit::{clock, memory};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "fork-copies-memory",
    claim: "fork copies the parent's memory.",
    section: "How a server serves more, processes",
    criterion: "The child of a parent with 64 MiB writes to 1,000 of the \
                pages. False if each first write causes a page fault: 950 to \
                1,200 of them, and below 100 for the second writes to the same \
                pages. True if the first writes cause below 100.",
    if_false: History::NeverTrue,
    sources: &["fork(2)", "getrusage(2)", "mm/memory.c, do_wp_page"],
    explanation: "fork makes both processes' pages read-only and copies the \
                  page tables, which are about 500 times smaller than the \
                  memory. A write to a shared page causes a fault, in which \
                  the kernel copies this one page. A child that serves one \
                  connection and ends therefore copies few pages.",
    run,
    file: file!(),
};

const PAGE: usize = 4096;
/// The size of the parent's memory in bytes.
const SIZE: usize = 64 << 20;
/// The number of pages that the child writes to.
const WRITES: usize = 1_000;

fn run(effort: Effort) -> Result<Finding> {
    let (mut faults, mut times) =
        ([const { Vec::new() }; 4], [const { Vec::new() }; 3]);
    for _ in 0..effort.pick(5, 1) {
        times[0].push(fork_micros()?);
        let mut memory = vec![1_u8; SIZE];
        times[1].push(fork_micros()?);
        times[2].push(clock::micros(|| {
            black_box(memory.clone());
            anyhow::Ok(())
        })?);
        let found = child::compute(|| write_in_the_child(&mut memory))?;
        for (faults, found) in faults.iter_mut().zip(found) {
            faults.push(found as f64);
        }
    }
    let [before, first, second, page_tables] = faults.map(Sample::new);
    let [small, large, copy] = times.map(Sample::new);
    Ok(Finding::new(
        judge(&first, &second),
        [
            Figure::new("faults in 1,000 first writes", "", first),
            Figure::new("faults in 1,000 second writes", "", second),
            Figure::new("faults of the child before it writes", "", before),
            Figure::new("the child's page tables", "KiB", page_tables),
            Figure::new("fork without the 64 MiB", "µs", small),
            Figure::new("fork with them", "µs", large),
            Figure::new("copying 64 MiB", "µs", copy),
        ],
    ))
}

/// Returns the page faults of a child before it writes, those of its first and
/// of its second writes, and the size of its page tables in KiB.
fn write_in_the_child(memory: &mut [u8]) -> Result<[u64; 4]> {
    let before = count()?;
    write(memory);
    let first = count()?;
    write(memory);
    let second = count()?;
    let tables = memory::of_process(getpid(), "VmPTE")? as u64;
    Ok([before, first - before, second - first, tables])
}

/// Returns the page faults of this process so far. fork sets them to zero.
fn count() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.minor_page_faults().try_into()?)
}

fn write(memory: &mut [u8]) {
    for page in memory.chunks_mut(PAGE).take(WRITES) {
        page[0] = black_box(2);
    }
}

/// Returns how long the parent is in fork.
fn fork_micros() -> Result<f64> {
    let mut child = None;
    let elapsed = clock::micros(|| {
        child = Some(Child::asleep()?);
        anyhow::Ok(())
    });
    drop(child);
    elapsed
}

/// Judges the page faults of the first and the second writes.
fn judge(first: &Sample, second: &Sample) -> Answer {
    let [few, least, most] = [0.1, 0.95, 1.2].map(|part| part * WRITES as f64);
    if first.is_below(few) == Answer::True {
        return Answer::True;
    }
    let is_lazy = first.is_below(least) == Answer::False
        && first.is_above(most) == Answer::False
        && second.is_below(few) == Answer::True;
    if is_lazy { Answer::False } else { Answer::Undecided }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_per_first_write_is_a_lazy_copy() {
        let answer = |first: f64, second: f64| {
            judge(&Sample::from(first), &Sample::from(second))
        };
        assert_eq!(answer(1_010.0, 0.0), Answer::False);
        assert_eq!(answer(3.0, 0.0), Answer::True);
        assert_eq!(answer(1_010.0, 1_000.0), Answer::Undecided);
        assert_eq!(answer(500.0, 0.0), Answer::Undecided);
    }
}
