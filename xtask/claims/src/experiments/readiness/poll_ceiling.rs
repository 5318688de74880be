//! poll's array may be longer than FD_SETSIZE; RLIMIT_NOFILE bounds it.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "poll-no-ceiling",
    claim: "poll has no limit on the number of descriptors.",
    section: "select and poll compared",
    criterion: "poll gets an array of RLIMIT_NOFILE entries, and one of an \
                entry more. True if both work. False if the first fails. It \
                depends if the first works and the second fails.",
    if_false: History::NeverTrue,
    sources: &["poll(2), EINVAL", "fs/select.c, do_sys_poll"],
    explanation: "The array may have any length up to the limit of open \
                  descriptors, which also bounds how many sockets a process \
                  can have. So poll adds no limit of its own in practice, \
                  where select's fd_set ends at 1,024. Beyond the limit it \
                  returns EINVAL.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = usize::try_from(limit).context("RLIMIT_NOFILE")?;
    let event = EventFd::from_value(1).context("eventfd")?;
    let entry = PollFd::new(event.as_fd(), PollFlags::POLLIN);
    let mut array = vec![entry; limit + 1];
    let at_limit = poll(&mut array[..limit], PollTimeout::ZERO);
    let beyond = poll(&mut array, PollTimeout::ZERO);
    if let Ok(ready) = at_limit {
        ensure!(ready as usize == limit, "{ready} of {limit} are ready");
    }
    let reported = at_limit.unwrap_or(0) as usize;
    Ok(Finding::new(
        judge(at_limit.is_ok(), beyond),
        [
            Figure::new("entries that one poll reports", "", reported),
            Figure::new("RLIMIT_NOFILE", "", limit),
        ],
    ))
}

fn judge(at_limit: bool, beyond: nix::Result<i32>) -> Answer {
    match (at_limit, beyond) {
        (true, Ok(_)) => Answer::True,
        (true, Err(Errno::EINVAL)) => Answer::Depends,
        (true, Err(_)) => Answer::Undecided,
        (false, _) => Answer::False,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors_makes_it_depend() {
        assert_eq!(judge(true, Ok(1)), Answer::True);
        assert_eq!(judge(true, Err(Errno::EINVAL)), Answer::Depends);
        assert_eq!(judge(true, Err(Errno::ENOMEM)), Answer::Undecided);
        assert_eq!(judge(false, Err(Errno::EINVAL)), Answer::False);
    }
}
