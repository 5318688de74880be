//! The parent learns of a child's end by its pid.

use std::fs;

use anyhow::{Context as _, Result};
use lab::process::poll_until;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pause};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child;
use crate::kit::net::PATIENCE;

pub const CLAIM: Claim = Claim {
    id: "child-pid",
    claim: "By the pid that fork returned, the parent learns that the child \
            has ended.",
    section: "Scaling by processes",
    criterion: "Of three children, the one in the middle ends. True if waitpid \
                with its pid reports its end, and nothing for the others, and \
                if it was a zombie until then. False if one of the three is \
                different.",
    if_false: History::NeverTrue,
    sources: &["fork(2)", "waitpid(2)"],
    explanation: "The kernel keeps the exit status of an ended child, and its \
                  entry in the process table, until the parent asks for it. A \
                  server that never asks collects zombies, until no pid is \
                  left. SIGCHLD or a pidfd says when to ask.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let wait = || {
        pause();
        Ok(())
    };
    let first = child::start(wait)?;
    let middle = child::start(|| Ok(()))?;
    let last = child::start(wait)?;
    let became_zombie =
        poll_until("the zombie", PATIENCE, || Ok(state(middle)? == 'Z'));
    let look = |pid| waitpid(pid, Some(WaitPidFlag::WNOHANG));
    let ends = [look(first)?, look(middle)?, look(last)?];
    for child in [first, last] {
        kill(child, Signal::SIGKILL)?;
        waitpid(child, None)?;
    }
    let reported = ends.map(|end| end != WaitStatus::StillAlive);
    let is_right = ends[1] == WaitStatus::Exited(middle, 0);
    let count = reported.iter().filter(|it| **it).count();
    Ok(Finding::new(
        judge(became_zombie.is_ok(), is_right, count),
        [Figure::new("of 3 children reported as ended", "", count)],
    ))
}

/// Returns the state of a process as /proc shows it.
fn state(pid: Pid) -> Result<char> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(path)?;
    let after_name = text.rsplit(") ").next().unwrap_or("");
    after_name.chars().next().context("no state")
}

fn judge(became_zombie: bool, is_right: bool, reported: usize) -> Answer {
    Answer::from_bool(became_zombie && is_right && reported == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_must_be_so() {
        assert_eq!(judge(true, true, 1), Answer::True);
        assert_eq!(judge(false, true, 1), Answer::False);
        assert_eq!(judge(true, false, 1), Answer::False);
        assert_eq!(judge(true, true, 2), Answer::False);
    }
}
