//! How late a wait ends doesn't depend on the unit of its timeout.

use std::time::Duration;

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::prctl::set_timerslack;

use super::wait;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "select-for-real-time",
    claim: "select suits real-time tasks better than poll and epoll, because \
            its timeout has a precision of microseconds.",
    section: "Use cases of select",
    criterion: "Lateness is the time from the end of a timeout of 300 µs until \
                the call has returned. False if ppoll and epoll_pwait2 are at \
                most 1.5 times as late as select. True if both are later than \
                that.",
    if_false: History::NeverTrue,
    sources: &[
        "poll(2)",
        "epoll_wait(2)",
        "prctl(2), PR_SET_TIMERSLACK",
        "time(7), The software clock, HZ, and jiffies",
    ],
    explanation: "All three calls sleep on the same kind of timer. Each is \
                  late by the timer slack, 50 µs by default, and by the wait \
                  for a processor. A real-time scheduling policy ends the \
                  slack; the choice of the call changes nothing. Before the \
                  kernel had high-resolution timers (time(7)), it rounded \
                  these timeouts to jiffies of 1 to 10 ms, so the finer unit \
                  had no effect then.",
    run,
    file: file!(),
};

const TIMEOUT: Duration = Duration::from_micros(300);

/// A factor up to this one is no difference.
const BOUND: f64 = 1.5;

fn run(effort: Effort) -> Result<Finding> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut waits = [const { Vec::new() }; 4];
    for _ in 0..effort.pick(501, 51) {
        waits[0].push(wait::select(TIMEOUT)?);
        waits[1].push(wait::ppoll(TIMEOUT)?);
        waits[2].push(wait::epoll_pwait2(&epoll, TIMEOUT)?);
        // 1 ns is the least; 0 stands for the thread's default.
        set_timerslack(1)?;
        waits[3].push(wait::select(TIMEOUT)?);
        set_timerslack(0)?;
    }
    let [select, ppoll, epoll, punctual] = waits.map(lateness);
    let by_ppoll = ppoll.ratio(&select);
    let by_epoll = epoll.ratio(&select);
    Ok(Finding::new(
        judge(&by_ppoll, &by_epoll),
        [
            Figure::new("lateness, ppoll / select", "times", by_ppoll),
            Figure::new("lateness, epoll_pwait2 / select", "times", by_epoll),
            Figure::new("select late", "µs", select),
            Figure::new("ppoll late", "µs", ppoll),
            Figure::new("epoll_pwait2 late", "µs", epoll),
            Figure::new("select late with a slack of 1 ns", "µs", punctual),
        ],
    ))
}

/// Subtracts the timeout from waits. No call returns before its timeout.
fn lateness(waits: Vec<f64>) -> Sample {
    let timeout = TIMEOUT.as_secs_f64() * 1e6;
    Sample::new(waits.into_iter().map(|waited| waited - timeout).collect())
}

/// Judges how many times as late as select the two other calls are.
fn judge(by_ppoll: &Sample, by_epoll: &Sample) -> Answer {
    match (by_ppoll.is_above(BOUND), by_epoll.is_above(BOUND)) {
        (Answer::True, Answer::True) => Answer::True,
        (Answer::False, Answer::False) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lateness_makes_it_false() {
        let answer = |by_ppoll: &[f64], by_epoll: &[f64]| {
            let by_ppoll = Sample::new(by_ppoll.to_vec());
            judge(&by_ppoll, &Sample::new(by_epoll.to_vec()))
        };
        assert_eq!(answer(&[0.9, 1.0, 1.1], &[1.0]), Answer::False);
        assert_eq!(answer(&[10.0, 12.0, 13.0], &[11.0]), Answer::True);
        assert_eq!(answer(&[0.5, 1.0, 3.0, 4.0], &[1.0]), Answer::Undecided);
        assert_eq!(answer(&[1.0], &[11.0]), Answer::Undecided);
    }
}
