//! select and poll keep nothing in the kernel between calls, so each call
//! passes all descriptors and looks at all of them.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::cpu;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "select-and-poll-cost-linear",
    claim: "Each call of select or poll copies all descriptors into the kernel \
            and looks at all of them, so its cost is linear in their number.",
    section: "select and poll, comparison of their speed",
    criterion: "The processor time of a call that finds nothing is measured \
                with 250, 500 and 1,000 descriptors. True if each doubling \
                makes select and poll 1.5 to 3 times as expensive. False if a \
                doubling makes one of them less than 1.5 times or more than 3 \
                times as expensive.",
    if_false: History::NeverTrue,
    sources: &["select(2)", "poll(2)", "fs/select.c, do_select and do_poll"],
    explanation: "The kernel forgets the descriptors when the call returns, so \
                  the program passes all of them again and the kernel asks \
                  each file for its state again. Asking costs much more than \
                  copying: poll skips entries with a negative descriptor, and \
                  copying those takes a small part of the time. epoll saves \
                  both, because its interest list stays in the kernel.",
    run,
    file: file!(),
};

/// Numbers of descriptors, each twice the one before.
const SIZES: [usize; 3] = [250, 500, 1_000];

/// Calls per measurement.
const CALLS: usize = 40;

fn run(effort: Effort) -> Result<Finding> {
    let events = (0..SIZES[2]).map(|_| EventFd::new().map(OwnedFd::from));
    let events = events.collect::<nix::Result<Vec<_>>>()?;
    let mut selects = [const { Vec::new() }; 3];
    let mut polls = [const { Vec::new() }; 3];
    let mut copies = Vec::new();
    for _ in 0..effort.pick(51, 9) {
        for (index, size) in SIZES.into_iter().enumerate() {
            // The last ones: the highest number is the same for all sizes.
            let events = &events[events.len() - size..];
            selects[index].push(select_cost(events)?);
            polls[index].push(poll_cost(events)?);
        }
        copies.push(copying_cost(SIZES[2])?);
    }
    let (selects, polls) = (selects.map(Sample::new), polls.map(Sample::new));
    let copies = Sample::new(copies);
    let (by_select, by_poll) = (doublings(&selects), doublings(&polls));
    let answer = judge(&by_select, &by_poll);
    let ([_, by_select], [_, by_poll]) = (by_select, by_poll);
    let ([.., select], [.., poll]) = (selects, polls);
    Ok(Finding::new(
        answer,
        [
            Figure::new("select, 1,000 instead of 500", "times", by_select),
            Figure::new("poll, 1,000 instead of 500", "times", by_poll),
            Figure::new("select with 1,000 descriptors", "µs", select),
            Figure::new("poll with 1,000 descriptors", "µs", poll),
            Figure::new("poll with 1,000 entries to skip", "µs", copies),
        ],
    ))
}

/// Returns the processor time of a select that finds nothing, in µs.
fn select_cost(events: &[OwnedFd]) -> Result<f64> {
    let mut full = FdSet::new();
    for event in events {
        full.insert(event.as_fd());
    }
    let highest = events.last().context("no descriptors")?.as_raw_fd();
    cpu::mean_micros(CALLS, || {
        let (mut set, mut now) = (full, TimeVal::zero());
        let ready = select(highest + 1, &mut set, None, None, &mut now)?;
        ensure!(ready == 0, "a descriptor is ready");
        Ok(())
    })
}

/// Returns the processor time of a poll that finds nothing, in µs.
fn poll_cost(events: &[OwnedFd]) -> Result<f64> {
    let events = events.iter().map(AsFd::as_fd);
    let array = events.map(|event| PollFd::new(event, PollFlags::POLLIN));
    let mut array: Vec<_> = array.collect();
    cpu::mean_micros(CALLS, || {
        let ready = poll(&mut array, PollTimeout::ZERO)?;
        ensure!(ready == 0, "a descriptor is ready");
        Ok(())
    })
}

/// Returns the processor time of a poll that copies this many entries and looks
/// at no file, because poll skips negative numbers.
fn copying_cost(size: usize) -> Result<f64> {
    let skipped = libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 };
    let mut array = vec![skipped; size];
    cpu::mean_micros(CALLS, || {
        let length = array.len() as libc::nfds_t;
        // SAFETY: the array has this many entries.
        let ready = unsafe { libc::poll(array.as_mut_ptr(), length, 0) };
        ensure!(ready == 0, "an entry is not skipped");
        Ok(())
    })
}

/// Returns the factors by which the two doublings multiply the cost.
fn doublings([small, middle, large]: &[Sample; 3]) -> [Sample; 2] {
    [middle.ratio(small), large.ratio(middle)]
}

fn judge(by_select: &[Sample; 2], by_poll: &[Sample; 2]) -> Answer {
    let mut answer = Answer::True;
    for factor in by_select.iter().chain(by_poll) {
        match (factor.is_above(1.5), factor.is_below(3.0)) {
            (Answer::False, _) | (_, Answer::False) => return Answer::False,
            (Answer::True, Answer::True) => {}
            _ => answer = Answer::Undecided,
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(values: &[f64]) -> [Sample; 2] {
        [Sample::new(values.to_vec()), Sample::from(2.0)]
    }

    #[test]
    fn each_doubling_must_double_the_cost() {
        let linear = factors(&[1.8, 2.0, 2.2]);
        for (other, expected) in [
            (factors(&[1.9, 2.0, 2.1]), Answer::True),
            (factors(&[1.0, 1.1, 1.2]), Answer::False),
            (factors(&[3.9, 4.0, 4.1]), Answer::False),
            (factors(&[1.2, 2.0, 4.0]), Answer::Undecided),
        ] {
            assert_eq!(judge(&linear, &other), expected);
            assert_eq!(judge(&other, &linear), expected);
        }
    }
}
