//! The read that finds out that nothing is there blocks if the descriptor does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::epoll::EpollFlags;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "edge-blocking-starves",
    claim: "Edge-triggered epoll requires non-blocking descriptors, because \
            draining a blocking one makes the other ready ones wait.",
    section: "epoll, modes: ET",
    criterion: "Two sockets are ready; the first is read until nothing is \
                left, with a receive timeout of 50 ms. True if this takes at \
                least 45 ms with a blocking descriptor and less with a \
                non-blocking one. False if both or neither take that long.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "socket(7), SO_RCVTIMEO"],
    explanation: "An edge comes once, so the program reads until no data is \
                  left. The last recv of such a loop finds nothing. On a \
                  non-blocking descriptor it returns EAGAIN; on a blocking one \
                  it sleeps until this client sends again, while the other \
                  ready descriptors wait. epoll itself accepts both kinds, and \
                  MSG_DONTWAIT makes a single recv non-blocking.",
    run,
    file: file!(),
};

/// How long a recv blocks at most. Without it, it would block until the client
/// sends.
const TIMEOUT: Duration = Duration::from_millis(50);

fn run(effort: Effort) -> Result<Finding> {
    let (mut blocking, mut nonblocking) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(11, 3) {
        blocking.push(wait_of_other(|_| Ok(()))?);
        nonblocking.push(wait_of_other(|it| it.set_nonblocking(true))?);
    }
    let [blocking, nonblocking] = [blocking, nonblocking].map(Sample::new);
    Ok(Finding::new(
        judge(&blocking, &nonblocking),
        [
            Figure::new("wait of the other, blocking", "ms", blocking),
            Figure::new("wait of the other, non-blocking", "ms", nonblocking),
        ],
    ))
}

/// Serves two sockets that are ready. Returns how long the second waits while
/// the first is read, in ms.
fn wait_of_other(
    prepare: impl FnOnce(&TcpStream) -> std::io::Result<()>,
) -> Result<f64> {
    let (mut client, mut server) = net::connection()?;
    let (mut other_client, other) = net::connection()?;
    server.set_read_timeout(Some(TIMEOUT))?;
    prepare(&server)?;
    let epoll = watch::instance([&server, &other], EpollFlags::EPOLLET)?;
    client.write_all(b"request")?;
    other_client.write_all(b"request")?;
    let ready = watch::reported(&epoll)?;
    ensure!(ready == 2, "{ready} sockets are ready instead of two");
    let start = Instant::now();
    let received = drain(&mut server)?;
    let waited = start.elapsed();
    ensure!(received == 7, "{received} bytes received");
    Ok(waited.as_secs_f64() * 1e3)
}

/// Reads until nothing is left. Returns the number of bytes.
fn drain(stream: &mut TcpStream) -> Result<usize> {
    let mut total = 0;
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => bail!("unexpected EOF"),
            Ok(count) => total += count,
            // EAGAIN: nothing there, or nothing within the receive timeout.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

/// Judges the waits in ms.
fn judge(blocking: &Sample, nonblocking: &Sample) -> Answer {
    let bound = 0.9 * TIMEOUT.as_secs_f64() * 1e3;
    match (blocking.is_above(bound), nonblocking.is_above(bound)) {
        (Answer::True, Answer::False) => Answer::True,
        (Answer::Undecided, _) | (_, Answer::Undecided) => Answer::Undecided,
        _ => Answer::False,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_blocking_descriptor_may_make_the_other_wait() {
        let long = Sample::new(vec![50.0, 51.0, 52.0, 60.0]);
        let short = Sample::new(vec![0.01, 0.02, 0.03, 0.1]);
        let mixed = Sample::new(vec![0.01, 0.02, 50.0, 50.0]);
        assert_eq!(judge(&long, &short), Answer::True);
        assert_eq!(judge(&short, &short), Answer::False);
        assert_eq!(judge(&long, &long), Answer::False);
        assert_eq!(judge(&long, &mixed), Answer::Undecided);
    }
}
