//! A non-blocking receive differs from a blocking one in the first phase only:
//! it doesn't wait for data. The second phase, the copy, is in the call.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab::process::wait_readable;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, net};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "nonblocking-recv",
    claim: "A non-blocking receive does not wait for data, but it copies \
            during the call, as a blocking one does.",
    section: "Socket I/O, comparison of the five I/O models",
    criterion: "True if a call without data fails with EAGAIN in less than a \
                tenth of the time for which a blocking one waits, and a call \
                with 32 KiB takes 0.5 to 2 times as long as a blocking one, \
                and more than twice as long as a call without data. False if \
                one of these differs in three quarters of the pairs.",
    if_false: History::NeverTrue,
    sources: &["recv(2), MSG_DONTWAIT", "net/ipv4/tcp.c, tcp_recvmsg_locked"],
    explanation: "O_NONBLOCK and MSG_DONTWAIT say what happens if there is no \
                  data: the call fails with EAGAIN, and the thread keeps the \
                  processor. If there is data, both kinds of call do the same: \
                  the thread that calls copies the bytes before the call \
                  returns. So non-blocking I/O is synchronous I/O.",
    run,
    file: file!(),
};

/// How long no data is sent while a blocking receive waits.
const SILENCE: Duration = Duration::from_millis(10);

/// Bytes per copy: fits into the initial receive buffer.
const LENGTH: usize = 32 * 1024;

/// Times in µs.
#[derive(Default)]
struct Times {
    /// A non-blocking call without data.
    empty: Vec<f64>,
    /// A blocking call whose data is sent after `SILENCE`.
    waiting: Vec<f64>,
    /// Non-blocking and blocking calls that find the data.
    nonblocking_copy: Vec<f64>,
    blocking_copy: Vec<f64>,
}

fn run(effort: Effort) -> Result<Finding> {
    let (mut client, server) = net::connection()?;
    let mut times = Times::default();
    for _ in 0..effort.pick(51, 7) {
        times.waiting.push(waiting(&mut client, &server)?);
        // After a sleep the caches are cold, so the first copy is not counted.
        let (block, fail) = (MsgFlags::empty(), MsgFlags::MSG_DONTWAIT);
        copy(&mut client, &server, block)?;
        times.nonblocking_copy.push(copy(&mut client, &server, fail)?);
        times.blocking_copy.push(copy(&mut client, &server, block)?);
        times.empty.push(empty(&server)?);
    }
    let empty = Sample::new(times.empty);
    let copy = Sample::new(times.nonblocking_copy);
    let to_wait = empty.ratio(&Sample::new(times.waiting));
    let to_blocking = copy.ratio(&Sample::new(times.blocking_copy));
    let to_empty = copy.ratio(&empty);
    let answer = judge(&to_wait, &to_blocking, &to_empty);
    let name = "copying 32 KiB, non-blocking instead of blocking";
    Ok(Finding::new(
        answer,
        [
            Figure::new(name, "times", to_blocking),
            Figure::new("non-blocking call that copies", "µs", copy),
            Figure::new("non-blocking call without data", "µs", empty),
        ],
    ))
}

/// Times a call that finds no data.
fn empty(server: &TcpStream) -> Result<f64> {
    let mut byte = [0];
    let mut call = || {
        let fd = server.as_raw_fd();
        match recv(fd, &mut byte, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => Ok(()),
            other => bail!("recv without data: {other:?}"),
        }
    };
    clock::micros(&mut call)
}

/// Times a blocking call for a byte that is sent after `SILENCE`.
fn waiting(client: &mut TcpStream, server: &TcpStream) -> Result<f64> {
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            thread::sleep(SILENCE);
            client.write_all(b"x")
        });
        let call = || recv(server.as_raw_fd(), &mut [0], MsgFlags::empty());
        let time = clock::micros(call)?;
        sender.join().map_err(|_| anyhow!("the sender's thread"))??;
        Ok(time)
    })
}

/// Times a call that finds all its data.
fn copy(
    client: &mut TcpStream,
    server: &TcpStream,
    flags: MsgFlags,
) -> Result<f64> {
    client.write_all(&[b'x'; LENGTH])?;
    let there = wait_readable(server, Instant::now() + net::PATIENCE)?;
    ensure!(there, "no data");
    let mut buffer = vec![0; LENGTH];
    // Touched once, so that page faults are not part of the time.
    buffer.fill(1);
    let start = Instant::now();
    let received = recv(server.as_raw_fd(), &mut buffer, flags);
    let time = start.elapsed().as_secs_f64() * 1e6;
    ensure!(received.context("recv")? == LENGTH, "the data came in parts");
    Ok(time)
}

/// Judges an empty call's time as a part of the wait, and a copying call's time
/// as a multiple of a blocking copy and of an empty call.
fn judge(to_wait: &Sample, to_blocking: &Sample, to_empty: &Sample) -> Answer {
    let answers = [
        to_wait.is_below(0.1),
        to_blocking.is_above(0.5),
        to_blocking.is_below(2.0),
        to_empty.is_above(2.0),
    ];
    if answers.contains(&Answer::False) {
        Answer::False
    } else if answers == [Answer::True; 4] {
        Answer::True
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_waits_or_does_not_copy_makes_it_false() {
        let answer = |to_wait: f64, to_blocking: &[f64], to_empty: f64| {
            let to_blocking = Sample::new(to_blocking.to_vec());
            judge(&to_wait.into(), &to_blocking, &to_empty.into())
        };
        assert_eq!(answer(0.001, &[1.0], 8.0), Answer::True);
        assert_eq!(answer(1.0, &[1.0], 8.0), Answer::False);
        assert_eq!(answer(0.001, &[0.1], 8.0), Answer::False);
        assert_eq!(answer(0.001, &[1.0], 1.0), Answer::False);
        assert_eq!(answer(0.001, &[1.0, 5.0], 8.0), Answer::Undecided);
    }
}
