//! The ready list is a queue: first ready, first reported.

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::sample::percent;

pub const CLAIM: Claim = Claim {
    id: "ready-order",
    claim: "epoll_wait reports descriptors in the order in which they became \
            ready, and takes turns if it can't report all of them.",
    section: "I/O multiplexing, epoll",
    criterion: "Sixteen eventfds become ready in an order that is not that of \
                their numbers. True if one epoll_wait reports them in that \
                order, and sixteen calls for one event each report each \
                descriptor once. False otherwise.",
    if_false: History::NeverTrue,
    sources: &["epoll_wait(2), NOTES", "fs/eventpoll.c, ep_send_events"],
    explanation: "The callback appends a descriptor to the ready list, and \
                  epoll_wait reports from the front. In level mode it appends \
                  what it has reported, because it may still be ready. So the \
                  next call starts with the others, and a descriptor that is \
                  always ready can't keep them from being reported.",
    run,
    file: file!(),
};

/// Descriptors.
const COUNT: usize = 16;

fn run(effort: Effort) -> Result<Finding> {
    let rounds = effort.pick(50, 5);
    let (mut in_order, mut in_turn) = (0, 0);
    for round in 0..rounds {
        let eventfds = watch::eventfds(COUNT)?;
        let epoll = watch::instance(&eventfds, EpollFlags::empty())?;
        let order = order(round);
        make_ready(&eventfds, &order)?;
        let reported = wait(&epoll, COUNT)?;
        ensure!(reported.len() == COUNT, "{} reported", reported.len());
        in_order += usize::from(reported == order);
        in_turn += usize::from(reports_each(&epoll)?);
    }
    let percent = |part| percent(part, rounds);
    Ok(Finding::new(
        judge(in_order, in_turn, rounds),
        [
            Figure::new("reported in order", "%", percent(in_order)),
            Figure::new("reported in turn", "%", percent(in_turn)),
        ],
    ))
}

/// Returns the numbers below `COUNT` in an order that is not ascending.
fn order(round: usize) -> Vec<usize> {
    let step = [3, 5, 7, 9, 11, 13, 15][round % 7];
    (0..COUNT).map(|place| (place * step + round) % COUNT).collect()
}

fn make_ready(eventfds: &[EventFd], order: &[usize]) -> Result<()> {
    for &place in order {
        eventfds[place].write(1)?;
    }
    Ok(())
}

/// Returns which descriptors one epoll_wait reports.
fn wait(epoll: &Epoll, most: usize) -> Result<Vec<usize>> {
    let mut events = vec![EpollEvent::empty(); most];
    let count = epoll.wait(&mut events, EpollTimeout::ZERO)?;
    let places = events[..count].iter().map(|event| event.data() as usize);
    Ok(places.collect())
}

/// Returns whether `COUNT` calls for one event each report each descriptor.
fn reports_each(epoll: &Epoll) -> Result<bool> {
    let mut places = Vec::new();
    for _ in 0..COUNT {
        places.extend(wait(epoll, 1)?);
    }
    places.sort_unstable();
    Ok(places.into_iter().eq(0..COUNT))
}

/// Judges how many of the rounds were as claimed.
fn judge(in_order: usize, in_turn: usize, rounds: usize) -> Answer {
    Answer::from_bool(in_order == rounds && in_turn == rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_must_be_as_claimed() {
        assert_eq!(judge(9, 9, 9), Answer::True);
        assert_eq!(judge(8, 9, 9), Answer::False);
        assert_eq!(judge(9, 0, 9), Answer::False);
    }

    #[test]
    fn no_order_is_ascending() {
        for round in 0..50 {
            assert!(!order(round).is_sorted(), "round {round}");
        }
    }
}
