//! poll's array has any length, but no more entries than the process may have
//! open descriptors.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use lab::Unsupported;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "poll-no-ceiling",
    claim: "poll has no limit on the number of descriptors.",
    section: "select and poll, comparison of their functions",
    criterion: "The limit of open descriptors is set to 4,096. Depends if poll \
                reports the ready one of 3,000 descriptors, and fails with \
                EINVAL for 5,000 entries until the limit is raised. True if it \
                doesn't fail for 5,000 entries. False if it fails for 3,000. \
                Undecided if it fails otherwise.",
    if_false: History::NeverTrue,
    sources: &["poll(2), ERRORS", "fs/select.c, do_sys_poll"],
    explanation: "poll has no fixed limit as `fd_set` has, because the caller \
                  passes an array and its length. But the kernel rejects a \
                  length above RLIMIT_NOFILE, even if the entries repeat \
                  descriptors. A server doesn't notice, because the same limit \
                  already stops it from opening that many.",
    run,
    file: file!(),
};

/// The limit of open descriptors, and the one to which it is raised.
const LIMIT: u64 = 4_096;
const RAISED: u64 = 6_000;

/// Open descriptors: more than an `fd_set` can have, fewer than the limit.
const BELOW: usize = 3_000;

/// Entries, more than the limit. They repeat the descriptors.
const ABOVE: usize = 5_000;

/// The return values of poll. Exactly one descriptor is ready, the last of the
/// array.
#[derive(Clone, Copy, Debug)]
struct Results {
    below: nix::Result<i32>,
    above: nix::Result<i32>,
    /// With `ABOVE` entries after the limit was raised.
    raised: nix::Result<i32>,
}

fn run(_: Effort) -> Result<Finding> {
    limit(LIMIT)?;
    let quiet = (1..BELOW).map(|_| EventFd::new().map(OwnedFd::from));
    let mut open = quiet.collect::<nix::Result<Vec<_>>>()?;
    open.push(EventFd::from_value(1)?.into());
    let below = poll_entries(&open, BELOW)?;
    let above = poll_entries(&open, ABOVE)?;
    limit(RAISED)?;
    let raised = poll_entries(&open, ABOVE)?;
    let results = Results { below, above, raised };
    let number = |result: nix::Result<i32>| f64::from(result.unwrap_or(-1));
    Ok(Finding::new(
        judge(results),
        [
            Figure::new(
                "returned, 5,000 entries, limit 4,096",
                "",
                number(above),
            ),
            Figure::new(
                "returned, 3,000 entries, limit 4,096",
                "",
                number(below),
            ),
            Figure::new(
                "returned, 5,000 entries, limit 6,000",
                "",
                number(raised),
            ),
        ],
    ))
}

/// Sets the number of descriptors that this process may open.
fn limit(count: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < count {
        bail!(Unsupported::Tool(format!(
            "the limit of open descriptors is {hard}, below {count}"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, count, hard).context("setrlimit")
}

/// Calls poll with this number of entries, the last descriptor being the last
/// entry only.
fn poll_entries(open: &[OwnedFd], count: usize) -> Result<nix::Result<i32>> {
    let (last, others) = open.split_last().context("no descriptors")?;
    let fds = others.iter().cycle().take(count - 1).chain([last]);
    let mut array: Vec<_> =
        fds.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    let result = poll(&mut array, PollTimeout::ZERO);
    if let Ok(ready) = result {
        let last = array.last().and_then(PollFd::any);
        ensure!(ready == 1 && last == Some(true), "another one is ready");
    }
    Ok(result)
}

fn judge(results: Results) -> Answer {
    match results {
        Results { below: Err(_), .. } => Answer::False,
        Results { above: Ok(_), .. } => Answer::True,
        Results { above: Err(Errno::EINVAL), raised: Ok(_), .. } => {
            Answer::Depends
        }
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_can_be_raised_makes_it_depend() {
        let (works, fails) = (Ok(1), Err(Errno::EINVAL));
        let answer =
            |below, above, raised| judge(Results { below, above, raised });
        assert_eq!(answer(works, fails, works), Answer::Depends);
        assert_eq!(answer(works, works, works), Answer::True);
        assert_eq!(answer(fails, fails, fails), Answer::False);
        assert_eq!(answer(works, fails, fails), Answer::Undecided);
    }
}
