//! epoll, edge-triggered: the event is kept on the ready list until a call
//! asks.

use anyhow::{Result, ensure};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};

pub const CLAIM: Claim = Claim {
    id: "copies-epoll-edge",
    claim: "An edge that occurs while no thread is in epoll_wait is lost.",
    section: "circulates",
    criterion: "Data arrives while the program computes. True if the next \
                epoll_wait reports nothing, in all runs. False if it reports \
                the socket in all runs.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "fs/eventpoll.c, ep_poll_callback"],
    explanation: "The edge is what puts the socket on the ready list, and \
                the socket stays there until an epoll_wait takes it off. A \
                thread that computes loses no event, it only learns of it \
                later.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let runs = (0..effort.pick(7, 2)).map(|_| observe());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    let (runs, reported): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    Ok(Finding::new(judge(&reported), computing::figures(&runs)))
}

/// Returns how many events a later epoll_wait reports, too.
fn observe() -> Result<(Observation, usize)> {
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    epoll.add(&receiver, EpollEvent::new(edge, 7))?;
    let mut earlier = [EpollEvent::empty()];
    let ready = epoll.wait(&mut earlier, EpollTimeout::ZERO)?;
    ensure!(ready == 0, "epoll reports data before it was sent");
    let told = || earlier[0] != EpollEvent::empty();
    let mut reported = 0;
    let run = computing::observe(&sender, &buffer, told, || {
        let mut later = [EpollEvent::empty()];
        reported = epoll.wait(&mut later, EpollTimeout::ZERO)?;
        buffer.receive(&receiver)
    })?;
    Ok((run, reported))
}

/// Judges the numbers of events that a later epoll_wait reported.
fn judge(reported: &[usize]) -> Answer {
    if reported.iter().all(|events| *events == 0) {
        Answer::True
    } else if reported.iter().all(|events| *events == 1) {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_reported_later_is_not_lost() {
        assert_eq!(judge(&[0, 0]), Answer::True);
        assert_eq!(judge(&[1, 1]), Answer::False);
        assert_eq!(judge(&[1, 0]), Answer::Undecided);
    }
}
