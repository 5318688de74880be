//! Threads have one descriptor table and one memory; a child process has copies
//! of both.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use anyhow::{Result, anyhow};
use nix::sys::eventfd::EventFd;
use nix::unistd::close;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child::Child;
use crate::sample::percent;

pub const CLAIM: Claim = Claim {
    id: "threads-share-descriptors",
    claim: "Threads share the descriptor table and the memory, unlike a parent \
            and its child.",
    section: "How a server serves more, threads",
    criterion: "True if, in each round, a descriptor that a thread closes is \
                closed in all and a variable that it sets is set in all, and \
                neither is so for a child process. False otherwise.",
    if_false: History::NeverTrue,
    sources: &["clone(2), CLONE_FILES and CLONE_VM", "pthreads(7)", "fork(2)"],
    explanation: "Both fork and pthread_create are clone calls. With \
                  CLONE_FILES and CLONE_VM the new task refers to the \
                  descriptor table and the memory of its creator. Without them \
                  it gets copies. A thread can therefore serve a connection \
                  that another has accepted, and can also close it by mistake.",
    run,
    file: file!(),
};

/// How often a change in the other task was seen in the first one.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    closed: usize,
    set: usize,
}

fn run(effort: Effort) -> Result<Finding> {
    let rounds = effort.pick(100, 10);
    let (mut of_child, mut of_thread) = (Seen::default(), Seen::default());
    // The children come first: with threads, fork isn't safe.
    for _ in 0..rounds {
        child(&mut of_child)?;
    }
    for _ in 0..rounds {
        thread(&mut of_thread)?;
    }
    let percent = |part: usize| percent(part, rounds);
    let figures = [
        ("closed by a thread, closed in all", of_thread.closed),
        ("set by a thread, set in all", of_thread.set),
        ("closed by a child, closed in the parent", of_child.closed),
        ("set by a child, set in the parent", of_child.set),
    ];
    Ok(Finding::new(
        judge(rounds, of_thread, of_child),
        figures.map(|(name, part)| Figure::new(name, "%", percent(part))),
    ))
}

fn thread(seen: &mut Seen) -> Result<()> {
    let descriptor = OwnedFd::from(EventFd::new()?);
    let number = descriptor.as_raw_fd();
    let variable = AtomicUsize::new(0);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            drop(descriptor);
            variable.store(1, Ordering::Relaxed);
        });
        thread.join().map_err(|_| anyhow!("the thread panicked"))
    })?;
    seen.closed += usize::from(!is_open(number));
    seen.set += variable.into_inner();
    Ok(())
}

fn child(seen: &mut Seen) -> Result<()> {
    let descriptor = OwnedFd::from(EventFd::new()?);
    let number = descriptor.as_raw_fd();
    let variable = AtomicUsize::new(0);
    let child = Child::start(|| {
        // _exit ends the child, so nothing closes the descriptor again.
        let closed = close(number);
        variable.store(1, Ordering::Relaxed);
        i32::from(closed.is_err() || is_open(number))
    })?;
    child.succeed()?;
    seen.closed += usize::from(!is_open(number));
    seen.set += variable.into_inner();
    Ok(())
}

/// Returns whether this process has a descriptor of this number.
fn is_open(number: RawFd) -> bool {
    fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()
}

fn judge(rounds: usize, thread: Seen, child: Seen) -> Answer {
    Answer::from_bool(
        [thread.closed, thread.set] == [rounds; 2]
            && [child.closed, child.set] == [0; 2],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_must_share_and_processes_must_not() {
        let (all, none) = (Seen { closed: 9, set: 9 }, Seen::default());
        assert_eq!(judge(9, all, none), Answer::True);
        assert_eq!(judge(9, none, none), Answer::False);
        assert_eq!(judge(9, all, all), Answer::False);
        assert_eq!(judge(9, Seen { set: 8, ..all }, none), Answer::False);
    }
}
