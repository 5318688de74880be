//! The unit of a timeout is that of its type: `timeval` has µs, `timespec` ns,
//! and an int ms.

use std::time::Duration;

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags};

use super::wait;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "timeout-precision",
    claim: "The timeout of select is in microseconds; that of poll and epoll \
            is in milliseconds.",
    section: "Use cases of select, poll and epoll",
    criterion: "A program wants to wait for 100 µs, and asks for 1 ms where \
                less can't be expressed. Depends if select, ppoll and \
                epoll_pwait2 return within 500 µs, and poll and epoll_wait \
                don't. True if of the five only select does. False if select \
                doesn't, or poll and epoll_wait do.",
    if_false: History::NeverTrue,
    sources: &[
        "select(2)",
        "poll(2)",
        "epoll_wait(2)",
        "prctl(2), timer slack",
    ],
    explanation: "The claim is about the oldest call of each family. ppoll and \
                  epoll_pwait2 take a timeout in ns. No call returns exactly \
                  on time: by default the kernel may let a timer expire up to \
                  50 µs late (the timer slack), and then the thread still has \
                  to get a processor.",
    run,
    file: file!(),
};

/// The wait that the program wants.
const SHORT: Duration = Duration::from_micros(100);

/// A wait that all calls can express, in ms.
const LONG: u16 = 2;

/// A wait up to this length is one of `SHORT`, not of 1 ms. In µs.
const BOUND: f64 = 500.0;

/// How long each call waited when asked for the shortest time that is at least
/// `SHORT`, in µs.
#[derive(Clone, Debug)]
struct Waits {
    select: Sample,
    poll: Sample,
    ppoll: Sample,
    epoll_wait: Sample,
    epoll_pwait2: Sample,
}

fn run(effort: Effort) -> Result<Finding> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let waits = |short: Duration, long: u16, count| -> Result<Waits> {
        let mut waits = [const { Vec::new() }; 5];
        for _ in 0..count {
            waits[0].push(wait::select(short)?);
            waits[1].push(wait::poll(long)?);
            waits[2].push(wait::ppoll(short)?);
            waits[3].push(wait::epoll_wait(&epoll, long)?);
            waits[4].push(wait::epoll_pwait2(&epoll, short)?);
        }
        let [select, poll, ppoll, epoll_wait, epoll_pwait2] =
            waits.map(Sample::new);
        Ok(Waits { select, poll, ppoll, epoll_wait, epoll_pwait2 })
    };
    let short = waits(SHORT, 1, effort.pick(201, 21))?;
    let long_timeout = Duration::from_millis(LONG.into());
    let long = waits(long_timeout, LONG, effort.pick(51, 5))?;
    let answer = judge(&short);
    let figure = |name, sample| Figure::new(name, "µs", sample);
    Ok(Finding::new(
        answer,
        [
            figure("100 µs in ppoll", short.ppoll),
            figure("100 µs in epoll_pwait2", short.epoll_pwait2),
            figure("100 µs in select", short.select),
            figure("shortest wait in poll", short.poll),
            figure("shortest wait in epoll_wait", short.epoll_wait),
            figure("2 ms in select", long.select),
            figure("2 ms in poll", long.poll),
            figure("2 ms in ppoll", long.ppoll),
            figure("2 ms in epoll_wait", long.epoll_wait),
            figure("2 ms in epoll_pwait2", long.epoll_pwait2),
        ],
    ))
}

fn judge(waits: &Waits) -> Answer {
    use Answer::{Depends, False, True, Undecided};
    let is_short = |sample: &Sample| sample.is_below(BOUND);
    let families = [&waits.poll, &waits.epoll_wait].map(is_short);
    let successors = [&waits.ppoll, &waits.epoll_pwait2].map(is_short);
    match (is_short(&waits.select), families, successors) {
        (False, ..) | (_, [True, True], _) => False,
        (True, [False, False], [True, True]) => Depends,
        (True, [False, False], [False, False]) => True,
        _ => Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successors_decide() {
        let claimed = Waits {
            select: Sample::from(150.0),
            poll: Sample::from(1_100.0),
            ppoll: Sample::from(1_100.0),
            epoll_wait: Sample::from(1_100.0),
            epoll_pwait2: Sample::from(1_100.0),
        };
        assert_eq!(judge(&claimed), Answer::True);
        let (ppoll, epoll_pwait2) = (Sample::from(150.0), Sample::from(151.0));
        let half = Waits { ppoll, ..claimed.clone() };
        assert_eq!(judge(&half), Answer::Undecided);
        let found = Waits { epoll_pwait2, ..half };
        assert_eq!(judge(&found), Answer::Depends);
        let late = Sample::from(1_100.0);
        let coarse = Waits { select: late, ..found.clone() };
        assert_eq!(judge(&coarse), Answer::False);
        let noisy = Sample::new(vec![150.0, 600.0]);
        let undecided = Waits { select: noisy, ..found };
        assert_eq!(judge(&undecided), Answer::Undecided);
    }
}
