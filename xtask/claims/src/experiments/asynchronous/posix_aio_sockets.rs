//! aio_read(3) works on sockets: the C library has threads that receive.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::pin::Pin;

use anyhow::{Context, Result};
use lab::process::poll_until;
use nix::errno::Errno;
use nix::sys::aio::{Aio as _, AioRead};
use nix::sys::signal::SigevNotify;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{net, task};
use crate::sample::{Sample, percent};

pub const CLAIM: Claim = Claim {
    id: "posix-aio-sockets",
    claim: "POSIX AIO does not work on sockets.",
    section: "circulates",
    criterion: "Four TCP connections have an aio_read each before data is \
                sent. False if each operation is in progress until then, and \
                ends with all the data in its buffer. True if none does. \
                Undecided otherwise.",
    if_false: History::NeverTrue,
    sources: &["aio(7)", "glibc, sysdeps/pthread/aio_misc.c"],
    explanation: "On Linux, glibc implements POSIX AIO without help from the \
                  kernel. It starts a thread for each descriptor with an \
                  operation, up to a limit, and the thread makes a blocking \
                  call. That works on sockets too, but costs as much as one \
                  thread per connection.",
    run,
    file: file!(),
};

/// Connections with an operation in flight at the same time.
const CONNECTIONS: usize = 4;

/// Bytes per receive.
const LENGTH: usize = 4096;

fn run(effort: Effort) -> Result<Finding> {
    let before = task::count()?;
    let rounds = effort.pick(20, 3);
    let (mut completed, mut threads) = (0, Vec::new());
    for _ in 0..rounds {
        let (with_data, running) = round()?;
        completed += with_data;
        threads.push(running as f64 - before as f64);
    }
    let operations = rounds * CONNECTIONS;
    let percent = percent(completed, operations);
    Ok(Finding::new(
        judge(completed, operations),
        [
            Figure::new("operations that end with the data", "%", percent),
            Figure::new(
                "threads of the C library for 4 operations",
                "",
                Sample::new(threads),
            ),
        ],
    ))
}

/// Returns how many operations did as POSIX says, and the number of threads
/// while they were in progress.
fn round() -> Result<(usize, usize)> {
    let mut pairs = Vec::new();
    for _ in 0..CONNECTIONS {
        pairs.push(net::connection()?);
    }
    let (mut clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let mut buffers = [[0; LENGTH]; CONNECTIONS];
    let mut reads = Vec::new();
    for (server, buffer) in servers.iter().zip(&mut buffers) {
        let notify = SigevNotify::SigevNone;
        let read = AioRead::new(server.as_fd(), 0, buffer, 0, notify);
        reads.push(Box::pin(read));
    }
    let waiting: Vec<_> =
        reads.iter_mut().map(|it| submit(it.as_mut())).collect();
    let threads = task::count();
    let sent = clients.iter_mut().map(|it| it.write_all(&[b'x'; LENGTH]));
    let sent: Result<Vec<_>, _> = sent.collect();
    // No error is returned before all operations have ended, because they use
    // the buffers.
    let ends: Vec<_> = reads.iter_mut().map(|it| end(it.as_mut())).collect();
    drop(reads);
    sent.context("sending")?;
    let mut with_data = 0;
    for ((waiting, end), buffer) in waiting.into_iter().zip(ends).zip(buffers) {
        let filled = end?.is_ok_and(|length| length == LENGTH)
            && buffer == [b'x'; LENGTH];
        with_data += usize::from(waiting && filled);
    }
    Ok((with_data, threads?))
}

/// Starts an operation, and returns whether it is in progress.
fn submit(mut read: Pin<&mut AioRead<'_>>) -> bool {
    let submitted = read.as_mut().submit();
    submitted.is_ok() && read.error() == Err(Errno::EINPROGRESS)
}

/// Waits for the end of an operation, and returns its result.
fn end(mut read: Pin<&mut AioRead<'_>>) -> Result<nix::Result<usize>> {
    if !read.in_progress() {
        return Ok(Err(Errno::ECANCELED));
    }
    poll_until("end of aio_read", net::PATIENCE, || {
        Ok(read.as_mut().error() != Err(Errno::EINPROGRESS))
    })?;
    Ok(read.aio_return())
}

/// Judges how many of the operations ended with the data.
fn judge(completed: usize, operations: usize) -> Answer {
    if completed == operations {
        Answer::False
    } else if completed == 0 {
        Answer::True
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_end_with_the_data_make_it_false() {
        assert_eq!(judge(8, 8), Answer::False);
        assert_eq!(judge(0, 8), Answer::True);
        assert_eq!(judge(7, 8), Answer::Undecided);
    }
}
