//! io_uring receives asynchronously: the submission returns before there is
//! data, and a completion reports that the data is in the buffer.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use io_uring::{IoUring, opcode, types};
use lab::process::poll_until;

use super::late::{self, LENGTH};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::{Sample, percent};

pub const CLAIM: Claim = Claim {
    id: "no-async-network-io",
    claim: "Linux has no asynchronous network I/O in the kernel.",
    section: "circulates",
    criterion: "A receive is submitted to io_uring, and data is sent 20 ms \
                later. False if three quarters of the submissions return in \
                less than half of that time, and each completion comes later, \
                with all the data in the buffer. True if three quarters of the \
                submissions take more than 90% of it, or no completion comes \
                later with all the data.",
    if_false: History::WasTrue,
    sources: &["io_uring(7)", "io_uring_enter(2)"],
    explanation: "It was true until Linux 5.1 brought io_uring. Since 5.3 \
                  io_uring has an operation that receives from sockets \
                  (io_uring_enter(2), IORING_OP_RECVMSG). The submission names \
                  the buffer and returns. When data arrives, the kernel copies \
                  it, and puts a completion into memory that it shares with \
                  the program: the program makes no receive call at all.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    // The kernel may write into the buffer until the receive is complete, even
    // if this function returns an error, so the buffer is never freed.
    let buffer = vec![0; LENGTH].leak();
    let mut ring = IoUring::new(4).context("io_uring_setup")?;
    let (mut client, server) = net::connection()?;
    let (mut times, mut completed) = (Vec::new(), 0);
    let rounds = effort.pick(25, 5);
    for _ in 0..rounds {
        buffer.fill(0);
        let fd = types::Fd(server.as_raw_fd());
        let start = buffer.as_mut_ptr();
        let receive = opcode::Recv::new(fd, start, LENGTH as u32).build();
        // SAFETY: the buffer is never freed, and is not used by this thread
        // before the completion.
        unsafe { ring.submission().push(&receive) }?;
        let (time, early) = late::request(&mut client, || {
            ring.submit()?;
            Ok(ring.completion().len())
        })?;
        times.push(time);
        // The program only looks at the completion queue, which is memory.
        let result = completion(&mut ring)?;
        let has_all = result == LENGTH as i32 && *buffer == [b'x'; LENGTH];
        completed += usize::from(early == 0 && has_all);
    }
    let (times, share) = (Sample::new(times), percent(completed, rounds));
    let answer = judge(&times, share);
    let times = times.values().iter().map(|time| 100.0 * time).collect();
    let name = "submission's time, of the time until the data is sent";
    Ok(Finding::new(
        answer,
        [
            Figure::new(name, "%", Sample::new(times)),
            Figure::new("completions with the data", "%", share),
        ],
    ))
}

/// Waits until there is a completion, and returns its result.
fn completion(ring: &mut IoUring) -> Result<i32> {
    let mut result = None;
    poll_until("completion", net::PATIENCE, || {
        result = ring.completion().next().map(|entry| entry.result());
        Ok(result.is_some())
    })?;
    Ok(result.unwrap_or_default())
}

/// Judges the submission's time as a part of the time until the send, and the
/// share of receives that were completed with the data later, in %.
fn judge(times: &Sample, completed: f64) -> Answer {
    let returns = times.is_below(0.5) == Answer::True;
    let waits = times.is_above(0.9) == Answer::True;
    if waits || completed == 0.0 {
        Answer::True
    } else if returns && completed == 100.0 {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_that_returns_and_completes_makes_it_false() {
        let answer = |times: &[f64], completed| {
            judge(&Sample::new(times.to_vec()), completed)
        };
        assert_eq!(answer(&[0.01, 0.02], 100.0), Answer::False);
        assert_eq!(answer(&[1.0, 1.1], 100.0), Answer::True);
        assert_eq!(answer(&[0.01, 0.02], 0.0), Answer::True);
        assert_eq!(answer(&[0.01, 0.02], 50.0), Answer::Undecided);
        assert_eq!(answer(&[0.01, 1.1], 100.0), Answer::Undecided);
    }
}
