//! epoll, level-triggered: the kernel puts the socket on the ready list while
//! the program computes, and copies nothing.

use anyhow::{Result, ensure};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Observation};

pub const CLAIM: Claim = Claim {
    id: "copies-epoll-level",
    claim: "epoll notifies the program actively when data arrives.",
    section: "epoll; and ways three and four to scale",
    criterion: "Data arrives while the program computes. True if in all runs \
                the event array of an earlier epoll_wait or the buffer \
                changes meanwhile. False if that is so in no run, and the \
                next epoll_wait reports the socket.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "fs/eventpoll.c, ep_poll_callback"],
    explanation: "A callback puts the socket on epoll's ready list when the \
                data arrives, whether or not a thread waits. The program \
                learns of it in its next epoll_wait and copies the data with \
                recv. So what epoll saves is the search for ready sockets, \
                not the question and not the copy.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let runs = (0..effort.pick(7, 2)).map(|_| observe());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    Ok(Finding::new(judge(&runs), computing::figures(&runs)))
}

fn observe() -> Result<Observation> {
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&receiver, EpollEvent::new(EpollFlags::EPOLLIN, 7))?;
    let mut earlier = [EpollEvent::empty()];
    let ready = epoll.wait(&mut earlier, EpollTimeout::ZERO)?;
    ensure!(ready == 0, "epoll reports data before it was sent");
    let told = || earlier[0] != EpollEvent::empty();
    computing::observe(&sender, &buffer, told, || {
        let mut later = [EpollEvent::empty()];
        let ready = epoll.wait(&mut later, EpollTimeout::ZERO)?;
        ensure!(ready == 1, "epoll does not report the data");
        buffer.receive(&receiver)
    })
}

fn judge(runs: &[Observation]) -> Answer {
    computing::in_all(runs, |run| run.told || run.copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn an_event_before_the_call_makes_it_true() {
        let (yes, no) = (made_up::here(), made_up::when_asked());
        assert_eq!(judge(&[yes, yes]), Answer::True);
        assert_eq!(judge(&[no, no]), Answer::False);
        assert_eq!(judge(&[yes, no]), Answer::Undecided);
    }
}
