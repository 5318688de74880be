//! POSIX AIO: a thread of the C library makes a blocking read.

use std::fs;
use std::mem;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::computing::{self, Buffer, LENGTH, Observation};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "copies-posix-aio",
    claim: "The kernel carries out aio_read in the background, and no thread \
                of the process waits for it.",
    section: "Asynchronous I/O",
    criterion: "An aio_read is started, and data arrives while the program \
                computes. True if in all runs the buffer is filled meanwhile \
                and the process has no additional thread. False if there is \
                an additional thread in all runs.",
    if_false: History::NeverTrue,
    sources: &["aio(7)"],
    explanation: "Linux has no system call behind aio_read. The C library \
                starts a thread, which sleeps in a blocking read and copies \
                there. The program's own thread is free, at the price of a \
                thread for each receive in progress.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let runs = (0..effort.pick(7, 2)).map(|_| observe());
    let runs = runs.collect::<Result<Vec<_>>>()?;
    let (runs, threads): (Vec<_>, Vec<f64>) = runs.into_iter().unzip();
    let threads = Sample::new(threads);
    let answer = judge(&runs, &threads);
    let mut figures = computing::figures(&runs).to_vec();
    figures.push(Figure::new("additional threads", "", threads));
    Ok(Finding::new(answer, figures))
}

/// Returns the number of additional threads, too.
fn observe() -> Result<(Observation, f64)> {
    let (sender, receiver) = computing::pair()?;
    let buffer = Buffer::new()?;
    // SAFETY: `aiocb` has numbers and pointers only; zero is valid for each.
    let operation: libc::aiocb = unsafe { mem::zeroed() };
    // It must stay in place while the operation is in progress.
    let operation = Box::leak(Box::new(operation));
    operation.aio_fildes = receiver.as_raw_fd();
    operation.aio_buf = buffer.as_mut_ptr().cast();
    operation.aio_nbytes = LENGTH;
    operation.aio_sigevent.sigev_notify = libc::SIGEV_NONE;
    // SAFETY: operation and buffer are never freed.
    let started = unsafe { libc::aio_read(operation) };
    Errno::result(started).context("aio_read")?;
    let threads = fs::read_dir("/proc/self/task")?.count() - 1;
    // SAFETY: the operation was started above and is never freed.
    let told = || unsafe { libc::aio_error(operation) } == 0;
    let run = computing::observe(&sender, &buffer, told, || Ok(()))?;
    Ok((run, threads as f64))
}

fn judge(runs: &[Observation], threads: &Sample) -> Answer {
    let copied = computing::in_all(runs, |run| run.copied_elsewhere());
    match (copied, threads.min() > 0.0, threads.max() > 0.0) {
        (Answer::True, false, false) => Answer::True,
        (_, true, _) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::made_up;

    #[test]
    fn a_thread_makes_it_false() {
        let answer = |threads: &[f64]| {
            let runs = vec![made_up::elsewhere(); threads.len()];
            judge(&runs, &Sample::new(threads.to_vec()))
        };
        assert_eq!(answer(&[0.0, 0.0]), Answer::True);
        assert_eq!(answer(&[1.0, 1.0]), Answer::False);
        assert_eq!(answer(&[0.0, 1.0]), Answer::Undecided);
    }
}
