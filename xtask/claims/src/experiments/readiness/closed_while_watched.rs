//! One thread waits for a descriptor, and another closes it meanwhile.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use nix::unistd::gettid;

use super::number;
use super::waiter::{Call, Report, TIMEOUT};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::sample::percent;

pub const CLAIM: Claim = Claim {
    id: "closed-while-watched",
    claim: "The result is undefined if a thread closes a descriptor that \
            another thread watches with select or poll.",
    section: "select and poll, comparison of their functions",
    criterion: "After the close, the number stays free, or a new descriptor \
                gets it that is not ready, or one that is. True if select or \
                poll reports different results for a free number in different \
                rounds. Depends if each always has the same result then, and \
                reports on the new descriptor if there is one. False if a new \
                descriptor changes nothing. Undecided otherwise.",
    if_false: History::NeverTrue,
    sources: &[
        "select(2), Multithreaded applications",
        "epoll(7), Questions and answers",
        "fs/select.c, do_select and do_pollfd",
    ],
    explanation: "POSIX leaves it open, and Linux does this: the close ends no \
                  wait. When the timeout expires, the kernel looks the number \
                  up once more, so select calls it readable and poll calls it \
                  invalid, or both report on another file that has got the \
                  number. epoll watches files, not numbers, and forgets the \
                  file.",
    run,
    file: file!(),
};

/// The fate of the number: it stays free, or an eventfd with this value
/// gets it, which is ready if the value is 1.
const CASES: [Option<u32>; 3] = [None, Some(0), Some(1)];

/// The reports in the three cases.
type Round = [Report; 3];

fn run(effort: Effort) -> Result<Finding> {
    let count = effort.pick(5, 1);
    let mut early = 0;
    let mut rounds = |call| -> Result<Vec<Round>> {
        (0..count).map(|_| round(call, &mut early)).collect()
    };
    let select = rounds(Call::Select)?;
    let poll = rounds(Call::Poll)?;
    let epoll = rounds(Call::Epoll)?;
    let part = |name, rounds: &[Round], case: usize, report| {
        let same = rounds.iter().filter(|round| round[case] == report).count();
        Figure::new(name, "%", percent(same, count))
    };
    use Report::{Invalid, Nothing, Readable};
    Ok(Finding::new(
        judge(&select, &poll),
        [
            part("select, number free: readable", &select, 0, Readable),
            part("select, new one not ready: nothing", &select, 1, Nothing),
            part("select, new one ready: readable", &select, 2, Readable),
            part("poll, number free: invalid", &poll, 0, Invalid),
            part("poll, new one not ready: nothing", &poll, 1, Nothing),
            part("poll, new one ready: readable", &poll, 2, Readable),
            part("epoll, number free: nothing", &epoll, 0, Nothing),
            part("epoll, new one ready: nothing", &epoll, 2, Nothing),
            Figure::new("calls that ended before the timeout", "", early),
        ],
    ))
}

/// Lets each of the cases happen once, and counts calls that end early.
fn round(call: Call, early: &mut usize) -> Result<Round> {
    let mut reports = [Report::Nothing; 3];
    for (case, report) in CASES.into_iter().zip(&mut reports) {
        // The timeout may expire before this thread gets a processor.
        let mut tries = (0..20).map(|_| close_meanwhile(call, case));
        let Some(result) = tries.find_map(Result::transpose) else {
            bail!("the close always came after the timeout");
        };
        let (reported, is_early) = result?;
        *report = reported;
        *early += usize::from(is_early);
    }
    Ok(reports)
}

/// Closes a descriptor while another thread waits for it. Returns what that
/// thread reports, and whether before the timeout; or nothing, if the timeout
/// expired first.
fn close_meanwhile(
    call: Call,
    case: Option<u32>,
) -> Result<Option<(Report, bool)>> {
    let watched = OwnedFd::from(EventFd::new()?);
    let fd = watched.as_raw_fd();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let new = case.map(EventFd::from_value).transpose()?;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let _ = sender.send(gettid());
            let start = Instant::now();
            let report = call.wait(fd, &epoll);
            (report, start, start.elapsed() < TIMEOUT)
        });
        let is_entered = call.is_entered(receiver.recv()?)?;
        drop(watched);
        let new = new.map(|new| number::duplicate(new, fd)).transpose()?;
        let done = Instant::now();
        let waited = waiter.join();
        drop(new);
        let (report, start, is_early) = waited.map_err(|_| anyhow!("panic"))?;
        let in_time = is_entered && (is_early || done < start + TIMEOUT);
        Ok(in_time.then_some((report, is_early)))
    })
}

fn judge(select: &[Round], poll: &[Round]) -> Answer {
    let both = [select, poll];
    let each = |holds: fn(&Round, &Round) -> bool| {
        both.iter().all(|rounds| rounds.iter().all(|it| holds(it, &rounds[0])))
    };
    if !each(|round, first| round[0] == first[0]) {
        Answer::True
    } else if each(|round, first| *round == [first[0]; 3]) {
        Answer::False
    } else if each(|it, _| it[1..] == [Report::Nothing, Report::Readable]) {
        Answer::Depends
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_descriptor_makes_it_depend() {
        use Report::{Invalid, Nothing, Readable};
        let poll = [[Invalid, Nothing, Readable]; 2];
        let select = [[Readable, Nothing, Readable]; 2];
        assert_eq!(judge(&select, &poll), Answer::Depends);
        let random = [[Readable, Nothing, Readable], [Nothing; 3]];
        assert_eq!(judge(&random, &poll), Answer::True);
        let (awake, invalid) = ([[Readable; 3]; 2], [[Invalid; 3]; 2]);
        assert_eq!(judge(&awake, &invalid), Answer::False);
        assert_eq!(judge(&awake, &poll), Answer::Undecided);
    }
}
