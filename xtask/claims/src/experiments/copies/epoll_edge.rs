//! An edge occurs while no thread is in epoll_wait. The ready list keeps it for
//! the next call.

use std::hint::black_box;

use anyhow::{Result, ensure};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-epoll-edge",
    claim: "An edge that occurs while no thread is in epoll_wait is lost.",
    section: "circulates",
    criterion: "A datagram arrives at an edge-triggered socket while the only \
                thread computes for 100 ms. True if the next epoll_wait \
                reports nothing in more than three quarters of the rounds. \
                False if it reports nothing in at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "fs/eventpoll.c"],
    explanation: "The edge puts the socket on the ready list of the epoll \
                  instance, whether or not a thread waits. It stays there \
                  until an epoll_wait reports it. Edge-triggered means that \
                  the report is not repeated while nothing new arrives, not \
                  that it needs a waiting thread.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let rounds = computing::rounds(effort, round)?;
    let (events, rounds): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    let reported = computing::sample(&events, |events| *events as f64);
    let mut finding = computing::finding(judge(&events), &rounds);
    let name = "events reported by the next epoll_wait";
    finding.figures.insert(0, Figure::new(name, "", reported));
    Ok(finding)
}

/// Returns how many events the next epoll_wait reports, besides what each
/// mechanism measures.
fn round() -> Result<(usize, Round)> {
    let (sender, receiver) = computing::sockets()?;
    let mut buffer = Buffer::new()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    epoll.add(&receiver, EpollEvent::new(edges, 7))?;
    let mut events = [EpollEvent::empty(); 2];
    let before = epoll.wait(&mut events, EpollTimeout::ZERO)?;
    ensure!(before == 0, "epoll reported data that was not sent");
    // From here on the compiler must expect that the kernel writes to the
    // array.
    let events = black_box(&mut events);
    let computed = computing::compute(&sender, &buffer, || {
        events[0] != EpollEvent::empty()
    })?;
    let mut reported = 0;
    let round = computed.then_ask(&mut buffer, |buffer| {
        reported = epoll.wait(events, EpollTimeout::ZERO)?;
        buffer.receive(&receiver)
    })?;
    Ok((reported, round))
}

/// Judges the numbers of events that the next calls reported.
fn judge(events: &[usize]) -> Answer {
    computing::in_most(events, |reported| *reported == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_reported_makes_it_false() {
        assert_eq!(judge(&[0; 7]), Answer::True);
        assert_eq!(judge(&[1; 7]), Answer::False);
        assert_eq!(judge(&[0, 1]), Answer::Undecided);
    }
}
