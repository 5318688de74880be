//! Linux native AIO on a socket: io_submit(2) of a read waits for the data
//! itself. Only its poll operation is asynchronous, and reports readiness.

use std::os::fd::AsRawFd as _;

use anyhow::{Result, ensure};
use nix::sys::socket::{MsgFlags, recv};

use super::late::{self, LENGTH};
use super::native::{Queue, poll, read};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "aio-linux-native",
    claim: "Linux native AIO (io_submit) makes socket I/O asynchronous.",
    section: "circulates",
    criterion: "A read from a blocking socket is submitted, and data is sent \
                20 ms later. True if three quarters of the io_submit calls \
                return in less than half of that time. False if three quarters \
                take more than 90% of it.",
    if_false: History::NeverTrue,
    sources: &["io_submit(2)", "io_getevents(2)", "fs/aio.c, aio_read"],
    explanation: "io_submit calls the read function of the file. Files opened \
                  with O_DIRECT can start a transfer and return; a blocking \
                  socket's function waits for data, so io_submit waits too. \
                  The poll operation of native AIO does return at once, but it \
                  only reports that a receive is possible.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    // The kernel may use the buffer until the operation is complete, even if
    // this function returns an error, so the buffer is never freed.
    let buffer = vec![0; LENGTH].leak();
    let queue = Queue::new()?;
    let (mut client, server) = net::connection()?;
    let (mut reads, mut polls) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(21, 4) {
        buffer.fill(0);
        let operation = read(&server, buffer);
        let (time, ()) =
            late::request(&mut client, || queue.submit(operation))?;
        reads.push(100.0 * time);
        ensure!(queue.event()? == LENGTH as i64, "the read's result");
        ensure!(*buffer == [b'x'; LENGTH], "the read's data");

        let operation = poll(&server);
        let (time, ()) =
            late::request(&mut client, || queue.submit(operation))?;
        polls.push(100.0 * time);
        let events = queue.event()?;
        ensure!(events & i64::from(libc::POLLIN) != 0, "the poll's result");
        let received = recv(server.as_raw_fd(), buffer, MsgFlags::empty())?;
        ensure!(received == LENGTH, "the receive after the poll");
    }
    let (reads, polls) = (Sample::new(reads), Sample::new(polls));
    let name = |what| format!("{what}, of the time until the data is sent");
    Ok(Finding::new(
        judge(&reads),
        [
            Figure::new(&name("io_submit of a read"), "%", reads),
            Figure::new(&name("io_submit of a poll"), "%", polls),
        ],
    ))
}

/// Judges the time of an io_submit as a percentage of the time until the send.
fn judge(reads: &Sample) -> Answer {
    match (reads.is_below(50.0), reads.is_above(90.0)) {
        (Answer::True, _) => Answer::True,
        (_, Answer::True) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_that_waits_makes_it_false() {
        let answer = |reads: &[f64]| judge(&Sample::new(reads.to_vec()));
        assert_eq!(answer(&[0.1, 0.3]), Answer::True);
        assert_eq!(answer(&[101.0, 103.0]), Answer::False);
        assert_eq!(answer(&[0.1, 103.0]), Answer::Undecided);
    }
}
