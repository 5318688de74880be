//! A non-blocking receive differs from a blocking one in the first phase only:
//! it doesn't wait for data. The second phase, the copy, is in the call.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
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
                with 128 KiB takes 0.5 to 2 times as long as a blocking one, \
                and more than twice as long as a call without data. False if \
                one of these differs in three quarters of the pairs.",
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

/// How long no data is sent while a blocking receive waits.
const SILENCE: Duration = Duration::from_millis(10);

/// Bytes of a datagram, so that the copy takes longer than the rest of a call.
const LENGTH: usize = 128 * 1024;

/// Times in µs.
#[derive(Default)]
struct Times {
    /// A non-blocking call without data.
    empty: Vec<f64>,
    /// A blocking call whose data is sent after `SILENCE`.
    waiting: Vec<f64>,
    /// Non-blocking and blocking calls that find the data.
    copies: [Vec<f64>; 2],
}

fn run(effort: Effort) -> Result<Finding> {
    let (client, server) = UnixDatagram::pair()?;
    server.set_read_timeout(Some(net::PATIENCE))?;
    let mut times = Times::default();
    let (block, fail) = (MsgFlags::empty(), MsgFlags::MSG_DONTWAIT);
    for round in 0..effort.pick(50, 8) {
        times.waiting.push(waiting(&client, &server)?);
        // After a sleep the caches are cold, so the first copy is not counted.
        copy(&client, &server, block)?;
        for flags in [block, fail, block].into_iter().skip(round % 2).take(2) {
            let time = copy(&client, &server, flags)?;
            let is_blocking = flags == block;
            times.copies[usize::from(is_blocking)].push(time);
        }
        times.empty.push(empty(&server)?);
    }
    let empty = Sample::new(times.empty);
    let [copy, blocking_copy] = times.copies.map(Sample::new);
    let to_wait = empty.ratio(&Sample::new(times.waiting));
    let to_blocking = copy.ratio(&blocking_copy);
    let to_empty = copy.ratio(&empty);
    let answer = judge(&to_wait, &to_blocking, &to_empty);
    let name = "copying 128 KiB, non-blocking instead of blocking";
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
fn empty(server: &UnixDatagram) -> Result<f64> {
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
fn waiting(client: &UnixDatagram, server: &UnixDatagram) -> Result<f64> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            thread::sleep(SILENCE);
            client.send(b"x")
        });
        let call = || recv(server.as_raw_fd(), &mut [0], MsgFlags::empty());
        let time = clock::micros(call)?;
        sender.join().map_err(|_| anyhow!("the sender's thread"))??;
        Ok(time)
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
