//! The interest list is a search tree, so a change costs little more with many
//! descriptors than with few.

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::cpu;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "ctl-cost",
    claim: "epoll keeps the watched descriptors in a red-black tree, so the \
            cost of epoll_ctl grows at most with the logarithm of their \
            number.",
    section: "I/O multiplexing, epoll",
    criterion: "EPOLL_CTL_MOD of ten descriptors in turn, and EPOLL_CTL_ADD \
                with EPOLL_CTL_DEL of one, are measured with 10 and with \
                10,000 watched descriptors. True if both take less than four \
                times as much processor time with 10,000, because the \
                logarithm is four times as large. False if one takes at least \
                four times as much.",
    if_false: History::NeverTrue,
    sources: &["fs/eventpoll.c, struct eventpoll: rbr", "epoll_ctl(2)"],
    explanation: "epoll_ctl has to find a descriptor among the watched ones. \
                  The kernel keeps them in a red-black tree, ordered by open \
                  file and descriptor number, so a search visits few of them. \
                  The rest of the call costs more. Calls for each of many \
                  descriptors in turn cost more too, but because their data \
                  isn't in the processor's cache.",
    run,
    file: file!(),
};

/// Numbers of watched descriptors.
const FEW: usize = 10;
const MANY: usize = 10_000;

/// A prime step, which leads to each descriptor.
const STEP: usize = 7_919;

/// Calls per measurement.
const CALLS: usize = 1_000;

fn run(effort: Effort) -> Result<Finding> {
    let eventfds = watch::eventfds(MANY + 1)?;
    let (extra, eventfds) = eventfds.split_last().context("no eventfd")?;
    let few = watch::instance(&eventfds[..FEW], EpollFlags::empty())?;
    let many = watch::instance(eventfds, EpollFlags::empty())?;
    let mut changes = [const { Vec::new() }; 3];
    let mut additions = [const { Vec::new() }; 2];
    for _ in 0..effort.pick(31, 5) {
        changes[0].push(change_cost(&few, &eventfds[..FEW], 1)?);
        changes[1].push(change_cost(&many, eventfds, MANY / FEW)?);
        changes[2].push(change_cost(&many, eventfds, STEP)?);
        additions[0].push(addition_cost(&few, extra)?);
        additions[1].push(addition_cost(&many, extra)?);
    }
    let [few_changed, many_changed, each_changed] = changes.map(Sample::new);
    let [few_added, many_added] = additions.map(Sample::new);
    let change = many_changed.ratio(&few_changed);
    let addition = many_added.ratio(&few_added);
    Ok(Finding::new(
        judge(&change, &addition),
        [
            Figure::new("MOD with 10,000 instead of 10", "times", change),
            Figure::new("ADD and DEL, likewise", "times", addition),
            Figure::new("MOD with 10", "µs", few_changed),
            Figure::new("MOD with 10,000", "µs", many_changed),
            Figure::new("MOD of each of 10,000 in turn", "µs", each_changed),
            Figure::new("ADD and DEL with 10,000", "µs", many_added),
        ],
    ))
}

/// Returns the processor time of one EPOLL_CTL_MOD, in µs. The calls go
/// through the descriptors by this step.
fn change_cost(epoll: &Epoll, all: &[EventFd], step: usize) -> Result<f64> {
    let mut place = 0;
    cpu::mean_micros(CALLS, || {
        place = (place + step) % all.len();
        epoll.modify(&all[place], &mut event(place))
    })
}

/// Returns the processor time of an EPOLL_CTL_ADD and an EPOLL_CTL_DEL, in µs.
fn addition_cost(epoll: &Epoll, extra: &EventFd) -> Result<f64> {
    cpu::mean_micros(CALLS, || {
        epoll.add(extra, event(MANY))?;
        epoll.delete(extra)
    })
}

fn event(place: usize) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, place as u64)
}

/// Judges the factors by which the costs grew.
fn judge(change: &Sample, addition: &Sample) -> Answer {
    match [change, addition].map(|growth| growth.is_below(4.0)) {
        [Answer::True, Answer::True] => Answer::True,
        [Answer::False, _] | [_, Answer::False] => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_calls_must_stay_below_the_logarithm() {
        let sample = |it: f64| Sample::new(vec![it - 0.5, it, it + 0.5]);
        let answer =
            |change, addition| judge(&sample(change), &sample(addition));
        assert_eq!(answer(1.2, 1.5), Answer::True);
        assert_eq!(answer(1.2, 900.0), Answer::False);
        assert_eq!(answer(1.2, 4.0), Answer::Undecided);
    }
}
