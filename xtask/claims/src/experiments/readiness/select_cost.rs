//! select's cost depends on the highest number, not on how many descriptors are
//! watched.

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::eventfd::EventFd;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::clock;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "select-cost",
    claim: "The cost of select depends on how many descriptors are watched.",
    section: "select; speed",
    criterion: "A call that finds nothing is timed with 1,000 descriptors, and \
                with 1 descriptor at the same highest number. True if 1,000 \
                are at least three times as expensive as 1 at the same number. \
                False if they are at most 1.5 times as expensive.",
    if_false: History::NeverTrue,
    sources: &["select(2)", "fs/select.c, do_select"],
    explanation: "The kernel copies and scans the bits up to the highest \
                  number, 64 with one comparison where none is set. That is \
                  cheap; each bit that is set costs a call into the socket. So \
                  the number of watched descriptors counts, and all of them \
                  are looked at in each call.",
    run,
    file: file!(),
};

/// The highest descriptor, just below FD_SETSIZE.
const HIGHEST: i32 = 1_020;

fn run(effort: Effort) -> Result<Finding> {
    let low = EventFd::new().context("eventfd")?;
    let first = low.as_raw_fd() + 1;
    let duplicate = |number| -> Result<OwnedFd> {
        let fd = fcntl(&low, FcntlArg::F_DUPFD_CLOEXEC(number));
        let fd = fd.context("F_DUPFD")?;
        // SAFETY: fcntl has just made this descriptor, and nothing else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    let all: Vec<_> =
        (first..=HIGHEST).map(duplicate).collect::<Result<_>>()?;
    let high = all.last().context("no descriptors")?;
    let mut few = [const { Vec::new() }; 3];
    for _ in 0..effort.pick(21, 3) {
        few[0].push(cost(&[&low])?);
        few[1].push(cost(&[high])?);
        few[2].push(cost(&all.iter().collect::<Vec<_>>())?);
    }
    let [low, high, many] = few.map(Sample::new);
    let by_count = many.ratio(&high);
    Ok(Finding::new(
        judge(&by_count),
        [
            Figure::new("1,000 descriptors instead of 1", "times", by_count),
            Figure::new("1 with a high number", "times", high.ratio(&low)),
            Figure::new("one call with 1 low descriptor", "µs", low),
        ],
    ))
}

/// Returns the time of a call that watches these descriptors, in µs.
fn cost<F: AsFd>(watched: &[&F]) -> Result<f64> {
    let mut full = FdSet::new();
    watched.iter().for_each(|it| full.insert(it.as_fd()));
    let highest = watched.iter().map(|it| it.as_fd().as_raw_fd()).max();
    let call = || {
        // select has overwritten the set of the call before.
        let mut set = full;
        let now = &mut TimeVal::zero();
        select(highest.map(|it| it + 1), &mut set, None, None, now)
    };
    Ok(clock::mean_micros(100, call)?)
}

fn judge(by_count: &Sample) -> Answer {
    match (by_count.is_above(3.0), by_count.is_below(1.5)) {
        (Answer::True, _) => Answer::True,
        (_, Answer::True) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_decides() {
        let answer = |values: &[f64]| judge(&Sample::new(values.to_vec()));
        assert_eq!(answer(&[10.0, 12.0, 20.0]), Answer::True);
        assert_eq!(answer(&[0.9, 1.0, 1.2]), Answer::False);
        assert_eq!(answer(&[1.0, 2.0, 4.0]), Answer::Undecided);
    }
}
