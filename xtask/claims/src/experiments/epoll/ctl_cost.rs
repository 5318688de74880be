//! The interest list is a search tree, so a change costs little more with many
//! descriptors than with few.

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::clock;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "ctl-cost",
    claim: "epoll keeps the watched descriptors in a red-black tree, so the \
            cost of epoll_ctl grows at most with the logarithm of their \
            number.",
    section: "I/O multiplexing, epoll",
    criterion: "EPOLL_CTL_MOD, and EPOLL_CTL_ADD with EPOLL_CTL_DEL, are timed \
                with 10 and with 10,000 watched descriptors. True if both cost \
                less than four times as much with 10,000, because the \
                logarithm is four times as large. False if one costs at least \
                four times as much.",
    if_false: History::NeverTrue,
    sources: &["fs/eventpoll.c, struct eventpoll: rbr", "epoll_ctl(2)"],
    explanation: "epoll_ctl has to find a descriptor among the watched ones. \
                  The kernel keeps them in a red-black tree, ordered by open \
                  file and descriptor number. A search visits at most a few \
                  dozen nodes, and most of the time of the call goes into \
                  other things.",
    run,
    file: file!(),
};

/// Numbers of watched descriptors.
const FEW: usize = 10;
const MANY: usize = 10_000;

/// Calls per measurement.
const CALLS: usize = 1_000;

fn run(effort: Effort) -> Result<Finding> {
    let eventfds = watch::eventfds(MANY + 1)?;
    let (extra, eventfds) = eventfds.split_last().expect("MANY + 1 > 0");
    let few = watch::instance(&eventfds[..FEW], EpollFlags::empty())?;
    let many = watch::instance(eventfds, EpollFlags::empty())?;
    let mut changes = [const { Vec::new() }; 2];
    let mut additions = [const { Vec::new() }; 2];
    for _ in 0..effort.pick(31, 5) {
        changes[0].push(change_cost(&few, &eventfds[..FEW])?);
        changes[1].push(change_cost(&many, eventfds)?);
        additions[0].push(addition_cost(&few, extra)?);
        additions[1].push(addition_cost(&many, extra)?);
    }
    let [few_changed, many_changed] = changes.map(Sample::new);
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
            Figure::new("ADD and DEL with 10,000", "µs", many_added),
        ],
    ))
}

/// Returns the time of one EPOLL_CTL_MOD, in µs. The calls go through the
/// descriptors in large steps.
fn change_cost(epoll: &Epoll, watched: &[EventFd]) -> nix::Result<f64> {
    let mut place = 0;
    clock::mean_micros(CALLS, || {
        place = (place + 7_919) % watched.len();
        epoll.modify(&watched[place], &mut event(place))
    })
}

/// Returns the time of an EPOLL_CTL_ADD and an EPOLL_CTL_DEL, in µs.
fn addition_cost(epoll: &Epoll, extra: &EventFd) -> nix::Result<f64> {
    clock::mean_micros(CALLS, || {
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
