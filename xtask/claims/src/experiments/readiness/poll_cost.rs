//! poll looks at each descriptor of its array once, so its cost is
//! proportional to their number.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::cpu;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "poll-cost-exponential",
    claim: "The cost of poll grows exponentially with the number of \
            descriptors.",
    section: "circulates",
    criterion: "The processor time of a call that finds nothing is measured \
                with 1,000, 2,000 and 4,000 descriptors. False if each \
                doubling makes it at most three times as expensive: linear \
                growth makes it twice as expensive. True if the second \
                doubling multiplies the cost by more than the square of the \
                first.",
    if_false: History::NeverTrue,
    sources: &["poll(2)", "fs/select.c, do_poll"],
    explanation: "Each call copies the array into the kernel and looks at \
                  every entry once, so twice the descriptors cost about twice \
                  the time. That is linear. It is still too much for a server \
                  with many idle connections, because each call pays for all \
                  of them.",
    run,
    file: file!(),
};

/// Numbers of descriptors, each twice the one before.
const SIZES: [usize; 3] = [1_000, 2_000, 4_000];

fn run(effort: Effort) -> Result<Finding> {
    let events = (0..SIZES[2]).map(|_| EventFd::new().map(OwnedFd::from));
    let events = events.collect::<nix::Result<Vec<_>>>()?;
    let watch = |size| {
        let watched = events.iter().take(size);
        let watched: Vec<_> = watched
            .map(|event| PollFd::new(event.as_fd(), PollFlags::POLLIN))
            .collect();
        watched
    };
    let mut sets = SIZES.map(watch);
    let mut costs = [const { Vec::new() }; 3];
    for _ in 0..effort.pick(21, 3) {
        for (set, costs) in sets.iter_mut().zip(&mut costs) {
            costs.push(cpu::mean_micros(50, || poll(set, PollTimeout::ZERO))?);
        }
    }
    let [small, middle, large] = costs.map(Sample::new);
    let (first, second) = (middle.ratio(&small), large.ratio(&middle));
    Ok(Finding::new(
        judge(&first, &second),
        [
            Figure::new("4,000 descriptors instead of 2,000", "times", second),
            Figure::new("2,000 descriptors instead of 1,000", "times", first),
            Figure::new("one call with 1,000 descriptors", "µs", small),
        ],
    ))
}

/// Judges the two factors by which a doubling multiplies the cost.
fn judge(first: &Sample, second: &Sample) -> Answer {
    let is_linear = [first, second].map(|factor| factor.is_below(3.0));
    if is_linear == [Answer::True; 2] {
        return Answer::False;
    }
    match second.is_above(first.median().powi(2)) {
        Answer::True => Answer::True,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_that_accelerates_is_exponential() {
        let answer = |first: &[f64], second: &[f64]| {
            judge(&Sample::new(first.to_vec()), &Sample::new(second.to_vec()))
        };
        assert_eq!(answer(&[1.9, 2.0, 2.2], &[2.0, 2.1, 2.4]), Answer::False);
        assert_eq!(answer(&[4.0, 4.1, 4.2], &[30.0, 31.0, 33.0]), Answer::True);
        assert_eq!(
            answer(&[1.0, 4.0, 9.0], &[2.0, 5.0, 8.0]),
            Answer::Undecided
        );
    }
}
