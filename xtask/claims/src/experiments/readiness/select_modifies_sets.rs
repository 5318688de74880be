//! select's sets and timeout are its results too, so a loop must fill them
//! again. poll has separate fields for the question and for the answer.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "select-modifies-sets",
    claim: "select modifies its descriptor sets; poll does not modify what it \
            watches.",
    section: "select and poll, comparison of their functions",
    criterion: "Two descriptors are watched, and one of them is ready. True if \
                a second call with the same arguments misses the other one, \
                now ready, with select, and reports it with poll. False if \
                both calls report it, or neither.",
    if_false: History::NeverTrue,
    sources: &["select(2)", "poll(2)", "fs/select.c, poll_select_finish"],
    explanation: "select writes its result over the sets, so a descriptor that \
                  was not ready is no longer watched until the program adds it \
                  again. Linux also writes the time that remains over the \
                  timeout, and after a timeout that is zero. poll writes only \
                  `revents`, so a loop can pass the same array again.",
    run,
    file: file!(),
};

/// The report of a second call with the same arguments.
#[derive(Clone, Copy, Debug)]
struct Second {
    select: bool,
    poll: bool,
}

/// The timeout of the call that must expire, in milliseconds.
const TIMEOUT: i64 = 20;

fn run(_: Effort) -> Result<Finding> {
    let (set, select_reports) = select_twice()?;
    let (array, poll_reports) = poll_twice()?;
    let second = Second { select: select_reports, poll: poll_reports };
    Ok(Finding::new(
        judge(second),
        [
            Figure::new("of 2 watched by select's second call", "", set),
            Figure::new("of 2 watched by poll's second call", "", array),
            Figure::new("select's 20 ms after a timeout", "ms", remaining()?),
        ],
    ))
}

/// Watches two descriptors with select, one of them ready. Then makes only the
/// other one ready, and calls select again with the same set. Returns how many
/// descriptors that call watched, and whether it reports the other one.
fn select_twice() -> Result<(usize, bool)> {
    let (other, ready) = (EventFd::new()?, EventFd::from_value(1)?);
    let mut set = FdSet::new();
    set.insert(other.as_fd());
    set.insert(ready.as_fd());
    let first = select(None, &mut set, None, None, &mut TimeVal::zero())?;
    ensure!(first == 1 && set.contains(ready.as_fd()), "not one is ready");

    ready.read()?;
    other.write(1)?;
    let watched = set.fds(None).count();
    let second = select(None, &mut set, None, None, &mut TimeVal::zero())?;
    Ok((watched, second == 1 && set.contains(other.as_fd())))
}

/// Does with poll what [`select_twice`] does with select.
fn poll_twice() -> Result<(usize, bool)> {
    let (other, ready) = (EventFd::new()?, EventFd::from_value(1)?);
    let watch = |event| PollFd::new(event, PollFlags::POLLIN);
    let mut array = [watch(other.as_fd()), watch(ready.as_fd())];
    let first = poll(&mut array, PollTimeout::ZERO)?;
    ensure!(first == 1 && array[1].any() == Some(true), "not one is ready");

    ready.read()?;
    other.write(1)?;
    let watched = array.iter().filter(|it| !it.events().is_empty()).count();
    let second = poll(&mut array, PollTimeout::ZERO)?;
    Ok((watched, second == 1 && array[0].any() == Some(true)))
}

/// Returns what select makes of a timeout that expires, in milliseconds.
fn remaining() -> Result<f64> {
    let mut timeout = TimeVal::milliseconds(TIMEOUT);
    let ready = select(None, None, None, None, &mut timeout)?;
    ensure!(ready == 0, "a descriptor is ready in an empty set");
    Ok(timeout.num_microseconds() as f64 / 1e3)
}

fn judge(second: Second) -> Answer {
    Answer::from_bool(!second.select && second.poll)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_or_neither_make_it_false() {
        let answer = |select, poll| judge(Second { select, poll });
        assert_eq!(answer(false, true), Answer::True);
        assert_eq!(answer(true, true), Answer::False);
        assert_eq!(answer(false, false), Answer::False);
    }
}
