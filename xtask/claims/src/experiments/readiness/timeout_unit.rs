//! poll and epoll_wait count milliseconds; ppoll and epoll_pwait2 nanoseconds.

use anyhow::Result;

use super::timeouts::Waits;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "timeout-unit",
    claim: "Only select can wait for less than a millisecond; poll and epoll \
            count in milliseconds.",
    section: "Where select is used",
    criterion: "ppoll and epoll_pwait2 are given 100 µs. False if both return \
                within 900 µs in three quarters of the calls. True if both \
                take longer in three quarters of them.",
    if_false: History::WasTrue,
    sources: &[
        "poll(2): ppoll was added in Linux 2.6.16",
        "epoll_wait(2): epoll_pwait2 was added in Linux 5.11",
    ],
    explanation: "It was true until ppoll and epoll_pwait2, which take a \
                  timespec in nanoseconds (poll(2), epoll_wait(2)). poll and \
                  epoll_wait still take whole milliseconds.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let waits = Waits::measure(effort)?;
    let answer = judge(&waits.ppoll, &waits.epoll_pwait2);
    let figure = |name, sample| Figure::new(name, "µs", sample);
    Ok(Finding::new(
        answer,
        [
            figure("ppoll, 100 µs", waits.ppoll),
            figure("epoll_pwait2, 100 µs", waits.epoll_pwait2),
            figure("select, 100 µs", waits.select),
            figure("poll, 1 ms", waits.poll),
            figure("epoll_wait, 1 ms", waits.epoll_wait),
        ],
    ))
}

fn judge(ppoll: &Sample, epoll_pwait2: &Sample) -> Answer {
    match [ppoll, epoll_pwait2].map(|wait| wait.is_below(900.0)) {
        [Answer::True, Answer::True] => Answer::False,
        [Answer::False, Answer::False] => Answer::True,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_must_return_early() {
        let [short, long] = [160.0, 1_100.0].map(Sample::from);
        assert_eq!(judge(&short, &short), Answer::False);
        assert_eq!(judge(&long, &long), Answer::True);
        assert_eq!(judge(&short, &long), Answer::Undecided);
    }
}
