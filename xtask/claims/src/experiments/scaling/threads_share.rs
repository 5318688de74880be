//! Threads share one table of descriptors; processes have one each.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context as _, Result};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child;

pub const CLAIM: Claim = Claim {
    id: "threads-share-descriptors",
    claim: "Threads share the descriptors and the memory of their process.",
    section: "Scaling by threads",
    criterion: "A thread opens two descriptors and writes to memory, then a \
                child process does. True if the thread's descriptors and bytes \
                are there for the caller, and the child's are not. False if \
                the thread's are not. It depends if both are.",
    if_false: History::NeverTrue,
    sources: &["pthreads(7)", "clone(2), CLONE_FILES and CLONE_VM"],
    explanation: "pthread_create and fork make the same system call, clone, \
                  with other flags. With CLONE_FILES and CLONE_VM the new task \
                  uses the table and the memory of the old one; without them \
                  it gets copies. So a thread costs less, and an error in one \
                  thread can affect all clients.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let before = descriptors()?;
    let mut memory = [0_u8];
    let opened = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            memory[0] = 1;
            UnixStream::pair()
        });
        thread.join().ok().context("the thread panicked")
    })??;
    let by_thread = descriptors()? - before;
    let written_by_thread = memory[0] == 1;
    child::run(|| {
        memory[0] = 2;
        let more = UnixStream::pair()?;
        Ok([f64::from(more.0.as_raw_fd())])
    })?;
    let by_process = descriptors()? - before - by_thread;
    let written_by_process = memory[0] == 2;
    drop(opened);
    Ok(Finding::new(
        judge(
            by_thread == 2 && written_by_thread,
            by_process > 0 || written_by_process,
        ),
        [
            Figure::new("descriptors opened by a thread", "", by_thread),
            Figure::new("descriptors opened by a child", "", by_process),
        ],
    ))
}

/// Returns the number of this process's descriptors.
fn descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

fn judge(thread_shares: bool, process_shares: bool) -> Answer {
    match (thread_shares, process_shares) {
        (true, false) => Answer::True,
        (true, true) => Answer::Depends,
        (false, _) => Answer::False,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_must_share() {
        assert_eq!(judge(true, false), Answer::True);
        assert_eq!(judge(true, true), Answer::Depends);
        assert_eq!(judge(false, false), Answer::False);
    }
}
