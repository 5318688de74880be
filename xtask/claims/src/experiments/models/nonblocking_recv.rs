//! A non-blocking receive differs from a blocking one in the first phase only:
//! it doesn't wait for data. The second phase, the copy, is in the call.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::clock;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "nonblocking-recv",
    claim: "A non-blocking receive does not wait for data, but it copies \
            during the call, as a blocking one does.",
    section: "Socket I/O, comparison of the five I/O models",
    criterion: "True if a call without data fails with EAGAIN in less than a \
                tenth of the time of a blocking one, whose receive timeout is \
                10 ms. With data, it must return all 128 KiB and take 0.75 to \
                1.5 times as long as a blocking one. False if one of the two \
                differs in three quarters of the pairs.",
    if_false: History::NeverTrue,
    sources: &[
        "recv(2), MSG_DONTWAIT",
        "net/unix/af_unix.c, __unix_dgram_recvmsg",
    ],
    explanation: "O_NONBLOCK and MSG_DONTWAIT say what happens if there is no \
                  data: the call fails with EAGAIN, and the thread keeps the \
                  processor. If there is data, both kinds of call do the same: \
                  the thread that calls copies the bytes before the call \
                  returns. So non-blocking I/O is synchronous I/O.",
    run,
    file: file!(),
};

/// How long a blocking call without data waits.
const TIMEOUT: Duration = Duration::from_millis(10);

/// Bytes of a datagram, so that the copy takes longer than the rest of a call.
const LENGTH: usize = 128 * 1024;

fn run(effort: Effort) -> Result<Finding> {
    let (client, server) = UnixDatagram::pair()?;
    server.set_read_timeout(Some(TIMEOUT))?;
    let (mut empties, mut waits) = (Vec::new(), Vec::new());
    let (mut copies, mut blocking_copies) = (Vec::new(), Vec::new());
    let (block, fail) = (MsgFlags::empty(), MsgFlags::MSG_DONTWAIT);
    for round in 0..effort.pick(60, 12) {
        waits.push(empty(&server, block)?);
        // After a sleep the caches are cold, so the first copy is not counted.
        copy(&client, &server, block)?;
        for flags in [block, fail, block].into_iter().skip(round % 2).take(2) {
            let time = copy(&client, &server, flags)?;
            let times =
                if flags == fail { &mut copies } else { &mut blocking_copies };
            times.push(time);
        }
        empties.push(empty(&server, fail)?);
    }
    let [empty, copy] = [empties, copies].map(Sample::new);
    let to_wait = empty.ratio(&Sample::new(waits));
    let to_blocking = copy.ratio(&Sample::new(blocking_copies));
    let name = "copying 128 KiB, non-blocking instead of blocking";
    Ok(Finding::new(
        judge(&to_wait, &to_blocking),
        [
            Figure::new(name, "times", to_blocking),
            Figure::new("non-blocking call that copies", "µs", copy),
            Figure::new("non-blocking call without data", "µs", empty),
        ],
    ))
}

/// Times a call that finds no data. A blocking one waits until the receive
/// timeout expires.
fn empty(server: &UnixDatagram, flags: MsgFlags) -> Result<f64> {
    clock::micros(|| match recv(server.as_raw_fd(), &mut [0], flags) {
        Err(Errno::EAGAIN) => Ok(()),
        other => bail!("recv without data: {other:?}"),
    })
}

/// Times a call that finds all its data.
fn copy(
    client: &UnixDatagram,
    server: &UnixDatagram,
    flags: MsgFlags,
) -> Result<f64> {
    client.send(&[b'x'; LENGTH])?;
    let mut buffer = vec![0; LENGTH];
    // Touched before, so that page faults are not part of the time.
    buffer.fill(1);
    let mut received = 0;
    let time = clock::micros(|| -> nix::Result<()> {
        received = recv(server.as_raw_fd(), &mut buffer, flags)?;
        Ok(())
    })?;
    ensure!(received == LENGTH, "received {received} bytes");
    ensure!(buffer == [b'x'; LENGTH], "the call did not copy");
    Ok(time)
}

/// Judges an empty call's time as a part of the wait, and a copying call's as a
/// multiple of a blocking one's.
fn judge(to_wait: &Sample, to_blocking: &Sample) -> Answer {
    let answers = [
        to_wait.is_below(0.1),
        to_blocking.is_above(0.75),
        to_blocking.is_below(1.5),
    ];
    if answers.contains(&Answer::False) {
        Answer::False
    } else if answers == [Answer::True; 3] {
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
        let answer = |to_wait: f64, to_blocking: &[f64]| {
            judge(&to_wait.into(), &Sample::new(to_blocking.to_vec()))
        };
        assert_eq!(answer(0.001, &[1.0]), Answer::True);
        assert_eq!(answer(1.0, &[1.0]), Answer::False);
        assert_eq!(answer(0.001, &[0.1]), Answer::False);
        assert_eq!(answer(0.001, &[5.0]), Answer::False);
        assert_eq!(answer(0.001, &[1.0, 5.0]), Answer::Undecided);
    }
}
