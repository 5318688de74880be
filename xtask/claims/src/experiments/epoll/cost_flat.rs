//! epoll_wait looks at the ready list only, so its cost doesn't depend on the
//! number of watched descriptors.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::EventFd;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::cpu;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "epoll-cost-flat",
    claim: "The cost of epoll_wait hardly grows with the number of watched \
            descriptors.",
    section: "I/O multiplexing, epoll",
    criterion: "The processor time of a call that finds one ready eventfd is \
                measured with 10, 1,000 and 10,000 watched ones. True if it is \
                less than twice as much with 10,000 as with 10. False if it is \
                at least twice as much.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "fs/eventpoll.c, ep_send_events"],
    explanation: "Each watched file has a callback that puts its descriptor \
                  on the ready list of the epoll instance. epoll_wait goes \
                  through that list only; the others are not looked at. poll \
                  has no list, so it asks each file of its array in each call.",
    run,
    file: file!(),
};

/// Numbers of watched descriptors.
const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// The descriptor that is ready.
const READY: usize = 5;

fn run(effort: Effort) -> Result<Finding> {
    let eventfds = watch::eventfds(SIZES[2])?;
    eventfds[READY].write(1)?;
    let mut epoll_costs = [const { Vec::new() }; 3];
    let mut poll_costs = [const { Vec::new() }; 3];
    for _ in 0..effort.pick(21, 3) {
        for (place, size) in SIZES.into_iter().enumerate() {
            let watched = &eventfds[..size];
            epoll_costs[place].push(epoll_cost(watched)?);
            poll_costs[place].push(poll_cost(watched)?);
        }
    }
    let [few, more, most] = epoll_costs.map(Sample::new);
    let [few_polled, _, most_polled] = poll_costs.map(Sample::new);
    let growth = most.ratio(&few);
    Ok(Finding::new(
        judge(&growth),
        [
            Figure::new("10,000 descriptors instead of 10", "times", growth),
            Figure::new(
                "the same for poll",
                "times",
                most_polled.ratio(&few_polled),
            ),
            Figure::new("epoll_wait with 10", "µs", few),
            Figure::new("epoll_wait with 1,000", "µs", more),
            Figure::new("epoll_wait with 10,000", "µs", most),
            Figure::new("poll with 10,000", "µs", most_polled),
        ],
    ))
}

/// Returns the processor time of one epoll_wait, in µs.
fn epoll_cost(watched: &[EventFd]) -> Result<f64> {
    let epoll = watch::instance(watched, EpollFlags::empty())?;
    cpu::mean_micros(1_000, || {
        let ready = watch::reported(&epoll)?;
        ensure!(ready == 1, "epoll_wait reported {ready} instead of one");
        Ok(())
    })
}

/// Returns the processor time of one poll, in µs.
fn poll_cost(watched: &[EventFd]) -> Result<f64> {
    let watched = watched.iter().map(|it| it.as_fd());
    let entries = watched.map(|it| PollFd::new(it, PollFlags::POLLIN));
    let mut array: Vec<_> = entries.collect();
    // Each number of descriptors takes about as long.
    let calls = 100_000 / array.len();
    cpu::mean_micros(calls, || {
        let ready = poll(&mut array, PollTimeout::ZERO)?;
        ensure!(ready == 1, "poll reported {ready} instead of one");
        Ok(())
    })
}

/// Judges the factor by which the cost grew.
fn judge(growth: &Sample) -> Answer {
    growth.is_below(2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_that_doubles_is_not_flat() {
        let answer = |growth: &[f64]| judge(&Sample::new(growth.to_vec()));
        assert_eq!(answer(&[0.9, 1.0, 1.3]), Answer::True);
        assert_eq!(answer(&[2.0, 90.0, 95.0]), Answer::False);
        assert_eq!(answer(&[1.0, 1.5, 2.5, 3.0]), Answer::Undecided);
    }
}
