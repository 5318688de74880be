//! fork copies memory lazily: a page is copied when one side first writes it.

use anyhow::Result;
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "fork-copies-memory",
    claim: "fork copies the memory of the parent.",
    section: "Scaling by processes",
    criterion: "A child of a process with 32 MiB of touched memory reads each \
                page, then writes each page; the page faults are counted. \
                False if reading causes less than a tenth of the faults of \
                writing, and writing at least one for each page. True if \
                writing causes less than a tenth of a fault per page.",
    if_false: History::NeverTrue,
    sources: &["fork(2), Notes", "getrusage(2), ru_minflt"],
    explanation: "fork copies the page tables and marks the pages read-only \
                  for both sides. The first write to a page causes a fault, \
                  and the kernel copies the page then. A child that only \
                  answers a client writes few pages, so it costs little \
                  memory.",
    run,
    file: file!(),
};

const MEMORY: usize = 32 * 1024 * 1024;
const PAGE: usize = 4096;

fn run(effort: Effort) -> Result<Finding> {
    // A huge page would be copied with one fault.
    prctl::set_thp_disable(true)?;
    let mut memory = vec![1_u8; MEMORY];
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(7, 2) {
        let (faults, _) = child::run(|| measure(&mut memory))?;
        reads.push(faults[0]);
        writes.push(faults[1]);
    }
    let (reads, writes) = (Sample::new(reads), Sample::new(writes));
    Ok(Finding::new(
        judge(&reads, &writes),
        [
            Figure::new("faults while the child wrote", "", writes),
            Figure::new("faults while the child read", "", reads),
            Figure::new("pages", "", MEMORY / PAGE),
        ],
    ))
}

/// Reads and writes one byte of each page, in the child. Returns the page
/// faults of both.
fn measure(memory: &mut [u8]) -> Result<[f64; 2]> {
    let start = faults()?;
    let sum: usize =
        memory.iter().step_by(PAGE).map(|it| usize::from(*it)).sum();
    let read = faults()?;
    for byte in memory.iter_mut().step_by(PAGE) {
        *byte = std::hint::black_box(sum as u8);
    }
    let written = faults()?;
    Ok([read - start, written - read])
}

fn faults() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.minor_page_faults() as f64)
}

fn judge(reads: &Sample, writes: &Sample) -> Answer {
    let pages = (MEMORY / PAGE) as f64;
    if writes.max() < pages / 10.0 {
        Answer::True
    } else if writes.min() >= pages && reads.max() < writes.min() / 10.0 {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_writes_show_that_it_is_lazy() {
        let answer = |reads: f64, writes: f64| {
            judge(&Sample::from(reads), &Sample::from(writes))
        };
        assert_eq!(answer(3.0, 8_200.0), Answer::False);
        assert_eq!(answer(0.0, 5.0), Answer::True);
        assert_eq!(answer(8_192.0, 8_200.0), Answer::Undecided);
    }
}
