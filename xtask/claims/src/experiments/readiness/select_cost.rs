//! select gets a bit per number, not a list of descriptors.

use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use anyhow::{Result, ensure};
use nix::sys::eventfd::EventFd;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::number;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::cpu;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "select-cost-highest-number",
    claim: "The cost of select depends on the highest descriptor number, not \
            on how many descriptors it watches.",
    section: "circulates",
    criterion: "The processor time of a call that finds nothing is measured \
                with one descriptor, number 20 or 1,000, and with 500 \
                descriptors up to number 1,000. True if the higher number \
                makes it more than 3 times as expensive, and the higher count \
                at most 3 times. False if it is the other way round.",
    if_false: History::NeverTrue,
    sources: &["select(2)", "fs/select.c, do_select"],
    explanation: "select gets one bit per number, so the kernel goes through \
                  all bits below `nfds`. It skips 64 of them at a time if none \
                  is set, and that is fast. Asking a file whether it is ready \
                  is what takes the time, and the kernel does it for the \
                  watched descriptors only.",
    run,
    file: file!(),
};

/// The numbers of the two descriptors that are watched alone.
const LOW: RawFd = 20;
const HIGH: RawFd = 1_000;

/// The number of descriptors that are watched together.
const MANY: RawFd = 500;

/// A factor above this one is a large one.
const BOUND: f64 = 3.0;

/// Calls per measurement.
const CALLS: usize = 50;

fn run(effort: Effort) -> Result<Finding> {
    let event = EventFd::new()?;
    let copy = |number| number::duplicate(&event, number);
    let (low, high) = (copy(LOW)?, copy(HIGH)?);
    let many = (HIGH - MANY + 1..HIGH).map(copy);
    let many = many.collect::<Result<Vec<_>>>()?;
    let one_low = set([&low]);
    let one_high = set([&high]);
    let many_high = set(many.iter().chain([&high]));
    let mut costs = [const { Vec::new() }; 3];
    for _ in 0..effort.pick(201, 31) {
        costs[0].push(cost(one_low, LOW)?);
        costs[1].push(cost(one_high, HIGH)?);
        costs[2].push(cost(many_high, HIGH)?);
    }
    let [one_low, one_high, many_high] = costs.map(Sample::new);
    let by_number = one_high.ratio(&one_low);
    let by_count = many_high.ratio(&one_high);
    Ok(Finding::new(
        judge(&by_number, &by_count),
        [
            Figure::new("500 descriptors instead of 1", "times", by_count),
            Figure::new("number 1,000 instead of 20", "times", by_number),
            Figure::new("one descriptor, number 20", "µs", one_low),
            Figure::new("one descriptor, number 1,000", "µs", one_high),
            Figure::new("500 descriptors up to 1,000", "µs", many_high),
        ],
    ))
}

fn set<'a>(fds: impl IntoIterator<Item = &'a OwnedFd>) -> FdSet<'a> {
    let mut set = FdSet::new();
    for fd in fds {
        set.insert(fd.as_fd());
    }
    set
}

/// Returns the processor time of a call that finds nothing, in µs.
fn cost(full: FdSet<'_>, highest: RawFd) -> Result<f64> {
    cpu::mean_micros(CALLS, || {
        let (mut set, mut now) = (full, TimeVal::zero());
        let ready = select(highest + 1, &mut set, None, None, &mut now)?;
        ensure!(ready == 0, "a descriptor is ready");
        Ok(())
    })
}

/// Judges the factors by which the highest number and the count multiply the
/// cost.
fn judge(by_number: &Sample, by_count: &Sample) -> Answer {
    match (by_number.is_above(BOUND), by_count.is_above(BOUND)) {
        (Answer::True, Answer::False) => Answer::True,
        (Answer::False, Answer::True) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_that_is_large_decides() {
        let answer = |by_number: f64, by_count: f64| {
            judge(&Sample::from(by_number), &Sample::from(by_count))
        };
        assert_eq!(answer(20.0, 1.1), Answer::True);
        assert_eq!(answer(1.4, 12.0), Answer::False);
        assert_eq!(answer(20.0, 12.0), Answer::Undecided);
        assert_eq!(answer(1.4, 1.1), Answer::Undecided);
    }
}
