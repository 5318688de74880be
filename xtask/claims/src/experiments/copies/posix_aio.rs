//! An aio_read is in progress while a thread computes. A thread of the C
//! library copies: to the kernel it is a blocking read.

use std::mem;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;

use crate::claim::{Answer, Claim, Copier, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, LENGTH, Round, Thread};
use crate::kit::net::PATIENCE;

pub const CLAIM: Claim = Claim {
    id: "copies-posix-aio",
    claim: "aio_read has the kernel copy in the background, without a thread \
            of the program.",
    section: "Asynchronous I/O",
    criterion: "A datagram arrives while the thread computes for 100 ms, and \
                for up to a second until an aio_read in progress ends. True \
                if, in more than three quarters of the rounds, the data is in \
                the buffer before the thread makes a call, and neither this \
                thread nor another thread of the program had at least half of \
                the copy's page faults. False if that is so in at most a \
                quarter of them.",
    if_false: History::NeverTrue,
    sources: &["aio(7)", "aio_read(3)"],
    explanation: "Linux has no system call behind aio_read. glibc starts a \
                  thread that calls a blocking read, so the copy takes no time \
                  of the thread that asked, but it takes the time of another \
                  one. That one is occupied from the start of the read to its \
                  end.",
    run,
    file: file!(),
};

/// How often a round is measured until the thread that copied is found. glibc
/// ends it after a second without work, which a busy machine can exceed.
const ATTEMPTS: usize = 3;

fn run(effort: Effort) -> Result<Finding> {
    let rounds = computing::rounds(effort, round)?;
    let name = "page faults of a thread of the C library";
    let answer = judge(&rounds);
    Ok(computing::finding_of_two(answer, rounds, Copier::Library, name))
}

/// Measures a round, and the page faults of the C library's thread.
fn round() -> Result<(Round, i64)> {
    for _ in 0..ATTEMPTS {
        let (round, copier) = attempt()?;
        match copier {
            Some(copier) if copier.is_of_kernel() => return Ok((round, 0)),
            Some(copier) => return Ok((round, copier.faults)),
            None if !round.is_copied_elsewhere() => return Ok((round, 0)),
            // The thread that copied has ended.
            None => {}
        }
    }
    bail!("no thread has the page faults of the copy")
}

fn attempt() -> Result<(Round, Option<Thread>)> {
    let (sender, receiver) = computing::sockets()?;
    let mut buffer = Buffer::new()?;
    let operation = Operation::start(&receiver, &buffer)?;
    let threads = computing::threads()?;
    let has_ended = || operation.error() != libc::EINPROGRESS;
    let computed = computing::compute(&sender, &buffer, || {
        computing::comes_true(has_ended)
    })?;
    let round = computed.then_ask(&mut buffer, |_| operation.complete())?;
    Ok((round, computing::other_copier(&threads)?))
}

/// A read into a buffer. It is never freed, because it must stay in place while
/// it is in progress.
struct Operation(*mut libc::aiocb);

impl Operation {
    fn start(receiver: &UnixDatagram, buffer: &Buffer) -> Result<Self> {
        // SAFETY: `aiocb` has numbers and pointers; zero is valid for each.
        let mut operation: libc::aiocb = unsafe { mem::zeroed() };
        operation.aio_fildes = receiver.as_raw_fd();
        operation.aio_buf = buffer.start().cast();
        operation.aio_nbytes = LENGTH;
        operation.aio_sigevent.sigev_notify = libc::SIGEV_NONE;
        let operation = Box::into_raw(Box::new(operation));
        // SAFETY: operation and buffer are never freed.
        let started = unsafe { libc::aio_read(operation) };
        Errno::result(started).context("aio_read")?;
        Ok(Self(operation))
    }

    /// Returns 0 if the read has completed. glibc looks it up in the operation,
    /// without a system call.
    fn error(&self) -> i32 {
        // SAFETY: an operation that aio_read has started.
        unsafe { libc::aio_error(self.0) }
    }

    /// Waits until the read has completed, and checks its result.
    fn complete(self) -> Result<()> {
        let list = [self.0.cast_const()];
        let patience = TimeSpec::from(PATIENCE);
        // SAFETY: a list of one operation, and a timeout.
        let ended =
            unsafe { libc::aio_suspend(list.as_ptr(), 1, patience.as_ref()) };
        Errno::result(ended).context("aio_suspend")?;
        // SAFETY: a completed operation, whose result nothing else has read.
        let read = unsafe { libc::aio_return(self.0) };
        ensure!(read == LENGTH as isize, "the read returned {read}");
        Ok(())
    }
}

/// Judges the rounds and the page faults of the C library's thread in each.
fn judge(rounds: &[(Round, i64)]) -> Answer {
    computing::in_most(rounds, |(round, library)| {
        round.is_copied_elsewhere() && !computing::is_copy(*library)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{elsewhere, in_call};

    #[test]
    fn a_copy_by_the_c_library_makes_it_false() {
        let (library, kernel) = ((elsewhere(), 31), (elsewhere(), 0));
        assert_eq!(judge(&[library; 7]), Answer::False);
        assert_eq!(judge(&[(in_call(), 0); 7]), Answer::False);
        assert_eq!(judge(&[kernel; 7]), Answer::True);
        assert_eq!(judge(&[library, kernel]), Answer::Undecided);
    }
}
