//! fork returns the child's process ID, and waitpid with it returns how this
//! child ended. A child that has ended is a zombie until then.

use anyhow::Result;
use lab::process::{Process, poll_until};
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{child::Child, net::PATIENCE};

pub const CLAIM: Claim = Claim {
    id: "child-end-by-pid",
    claim: "fork returns the child's process ID, by which the parent learns \
            that the child has ended.",
    section: "How a server serves more, processes",
    criterion: "Several children end with statuses of their own, and the \
                parent waits for the last one first. True if each waitpid \
                returns the asked child's ID and status, each child is a \
                zombie before and gone afterwards, and a second waitpid fails \
                with ECHILD. False otherwise.",
    if_false: History::NeverTrue,
    sources: &["fork(2)", "waitpid(2)", "signal(7)", "proc_pid_stat(5)"],
    explanation: "The kernel keeps the process ID and the exit status of a \
                  child that has ended, because the parent may still ask for \
                  them. Such a zombie occupies an entry of the process table \
                  until the parent calls waitpid. SIGCHLD isn't enough: a \
                  second one is discarded while the first is pending, so one \
                  signal can stand for several children.",
    run,
    file: file!(),
};

const CHILDREN: usize = 8;

/// The observed end of one child.
#[derive(Clone, Copy, Debug)]
struct End {
    is_zombie: bool,
    is_reported: bool,
    is_gone: bool,
}

fn run(effort: Effort) -> Result<Finding> {
    let mut ends = Vec::new();
    for _ in 0..effort.pick(20, 2) {
        // The statuses differ, so an exchanged child is noticed.
        let children = (1..=CHILDREN as i32)
            .map(|status| Ok((Child::start(|| status)?, status)))
            .collect::<Result<Vec<_>>>()?;
        for (child, status) in children.into_iter().rev() {
            ends.push(end(child, status)?);
        }
    }
    let count =
        |is_so: fn(&End) -> bool| ends.iter().filter(|end| is_so(end)).count();
    let figures = [
        ("children reported by ID and status", count(|end| end.is_reported)),
        ("zombies before", count(|end| end.is_zombie)),
        ("gone afterwards", count(|end| end.is_gone)),
        ("children", ends.len()),
    ];
    Ok(Finding::new(
        judge(&ends),
        figures.map(|(name, number)| Figure::new(name, "", number)),
    ))
}

/// Waits for a child, and looks at it before and afterwards.
fn end(child: Child, status: i32) -> Result<End> {
    let pid = child.pid();
    let is_in_zombie_state = || state(pid) == Some('Z');
    let zombie = poll_until("zombie", PATIENCE, || Ok(is_in_zombie_state()));
    let reported = child.wait()?;
    Ok(End {
        is_zombie: zombie.is_ok(),
        is_reported: reported == WaitStatus::Exited(pid, status),
        is_gone: state(pid).is_none()
            && waitpid(pid, None) == Err(Errno::ECHILD),
    })
}

fn state(pid: Pid) -> Option<char> {
    Process::read(pid).map(|process| process.state)
}

fn judge(ends: &[End]) -> Answer {
    let is_as_said =
        |end: &End| end.is_zombie && end.is_reported && end.is_gone;
    Answer::from_bool(!ends.is_empty() && ends.iter().all(is_as_said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_exception_makes_it_false() {
        let end = End { is_zombie: true, is_reported: true, is_gone: true };
        assert_eq!(judge(&[end, end]), Answer::True);
        for other in [
            End { is_zombie: false, ..end },
            End { is_reported: false, ..end },
            End { is_gone: false, ..end },
        ] {
            assert_eq!(judge(&[end, other]), Answer::False);
        }
    }
}
