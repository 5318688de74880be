//! Data arrives while a thread computes between two calls of epoll_wait. epoll
//! puts the socket on its ready list, and the program learns of it when it
//! calls.

use std::hint::black_box;

use anyhow::{Result, ensure};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-epoll-level",
    claim: "epoll notifies the program of data on its own, so the program need \
            not ask.",
    section: "Method four: from polling to events",
    criterion: "A datagram arrives while the thread computes for 100 ms after \
                an epoll_wait that found nothing. True if the array of events \
                of that call has changed, or the data is in the buffer, before \
                the thread makes another call, in more than three quarters of \
                the rounds. False if that is so in at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "epoll_wait(2)", "fs/eventpoll.c"],
    explanation: "The callback that epoll registers runs in the kernel: it \
                  puts the socket on the ready list and wakes a thread that \
                  sleeps in epoll_wait. A thread that computes is not \
                  interrupted. It learns of the data when it calls epoll_wait, \
                  and recv makes the copy.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let rounds = computing::rounds(effort, round)?;
    Ok(computing::finding(judge(&rounds), &rounds))
}

fn round() -> Result<Round> {
    let (sender, receiver) = computing::sockets()?;
    let mut buffer = Buffer::new()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&receiver, EpollEvent::new(EpollFlags::EPOLLIN, 7))?;
    let mut events = [EpollEvent::empty(); 2];
    let reported = epoll.wait(&mut events, EpollTimeout::ZERO)?;
    ensure!(reported == 0, "epoll reported data that was not sent");
    // From here on the compiler must expect that the kernel writes to the
    // array.
    let events = black_box(&mut events);
    let computed = computing::compute(&sender, &buffer, || {
        events[0] != EpollEvent::empty()
    })?;
    computed.then_ask(&mut buffer, |buffer| {
        let reported = epoll.wait(events, EpollTimeout::ZERO)?;
        ensure!(reported == 1, "epoll did not report the datagram");
        buffer.receive(&receiver)
    })
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, |round| round.told || round.copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{elsewhere, in_call};

    #[test]
    fn only_news_without_a_call_makes_it_true() {
        let told = Round { told: true, ..in_call() };
        assert_eq!(judge(&[told; 7]), Answer::True);
        assert_eq!(judge(&[elsewhere(); 7]), Answer::True);
        assert_eq!(judge(&[in_call(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), told]), Answer::Undecided);
    }
}
