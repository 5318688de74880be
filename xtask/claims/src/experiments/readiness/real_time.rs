//! select's timeout is no more precise than that of ppoll and epoll_pwait2: the
//! timer slack decides.

use anyhow::Result;
use nix::sys::prctl;

use super::timeouts::{TIMEOUT, Waits};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "select-real-time",
    claim: "select suits real-time tasks, such as the control of a reactor, \
            better than poll and epoll, because its timeout is in \
            microseconds.",
    section: "Where select is used",
    criterion: "select, ppoll and epoll_pwait2 wait for 100 µs in turn. The \
                ratio of their lateness decides. True if ppoll and \
                epoll_pwait2 are both more than 1.5 times as late as select \
                (medians). False if one of them is at most 1.1 times as late.",
    if_false: History::WasTrue,
    sources: &[
        "poll(2): ppoll was added in Linux 2.6.16",
        "prctl(2), PR_SET_TIMERSLACK",
        "sched(7), SCHED_DEADLINE",
    ],
    explanation: "A unit is not a precision. All these calls sleep on the same \
                  kind of timer, which the kernel may let expire 50 µs late \
                  (the timer slack), and then the thread waits for a \
                  processor. A real-time program needs a real-time scheduling \
                  class, not select.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let slack = f64::from(prctl::get_timerslack()?) / 1_000.0;
    let waits = Waits::measure(effort)?;
    let late = |wait: &Sample| {
        Sample::new(wait.values().iter().map(|it| it - TIMEOUT).collect())
    };
    let select = late(&waits.select);
    let ppoll = late(&waits.ppoll);
    let epoll_pwait2 = late(&waits.epoll_pwait2);
    let answer = judge(&select, &ppoll, &epoll_pwait2);
    let figure = |name, sample| Figure::new(name, "µs", sample);
    Ok(Finding::new(
        answer,
        [
            figure("select is late by", select),
            figure("ppoll is late by", ppoll),
            figure("epoll_pwait2 is late by", epoll_pwait2),
            Figure::new("timer slack", "µs", slack),
        ],
    ))
}

fn judge(select: &Sample, ppoll: &Sample, epoll_pwait2: &Sample) -> Answer {
    let ratios = [ppoll, epoll_pwait2].map(|it| it.median() / select.median());
    if ratios.iter().all(|ratio| *ratio > 1.5) {
        Answer::True
    } else if ratios.iter().any(|ratio| *ratio <= 1.1) {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lateness_decides() {
        let answer = |ppoll: f64, pwait2: f64| {
            judge(&Sample::from(60.0), &ppoll.into(), &pwait2.into())
        };
        assert_eq!(answer(200.0, 300.0), Answer::True);
        assert_eq!(answer(58.0, 300.0), Answer::False);
        assert_eq!(answer(75.0, 80.0), Answer::Undecided);
    }
}
