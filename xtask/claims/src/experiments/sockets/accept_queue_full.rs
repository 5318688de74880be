//! A listener's accept queue is full when it has one connection more than the
//! backlog of listen(2). The kernel then drops the SYN of the next client.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::process::wait_for;
use nix::poll::PollFlags;
use socket2::{Domain, Socket, Type};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{net, tcp};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "accept-queue-full",
    claim: "A client gets ECONNREFUSED if the accept queue of the server is \
            full.",
    section: "circulates",
    criterion: "Clients connect to listeners that accept nothing, until a \
                connect hasn't succeeded within 300 ms. True if it has failed \
                with ECONNREFUSED by then. False if it is still in progress, \
                and succeeds after the server accepts one connection.",
    if_false: History::NeverTrue,
    sources: &[
        "listen(2)",
        "tcp(7), tcp_abort_on_overflow",
        "net/ipv4/tcp_input.c, tcp_conn_request",
        "net/ipv4/tcp_minisocks.c, tcp_check_req",
    ],
    explanation: "The queue holds one connection more than the backlog. Linux \
                  drops a SYN that finds it full. The client repeats it after \
                  1 s, so connect takes longer instead of failing. \
                  net.ipv4.tcp_abort_on_overflow resets connections, but only \
                  those that find the queue full at the end of their \
                  handshake. ECONNREFUSED means that no socket listens on the \
                  port.",
    run,
    file: file!(),
};

/// The backlogs of the listeners.
const BACKLOGS: [usize; 2] = [0, 8];

/// The time after which a connect counts as not answered. A handshake on
/// loopback requires less than 1 ms, a repeated SYN 1 s.
const UNANSWERED: Duration = Duration::from_millis(300);

/// The outcome of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Connected,
    Refused,
    InProgress,
}

fn run(effort: Effort) -> Result<Finding> {
    let backlogs = &BACKLOGS[..effort.pick(BACKLOGS.len(), 1)];
    let (mut outcomes, mut times, mut counts) = (vec![], vec![], vec![]);
    for &backlog in backlogs {
        let (queued, outcome, time) = overflow(backlog)?;
        outcomes.push(outcome);
        times.push(time);
        let name = format!("connections in the full queue, backlog {backlog}");
        counts.push(Figure::new(&name, "", queued));
    }
    let refused = outcomes.iter().filter(|it| **it == Outcome::Refused);
    let mut figures = vec![
        Figure::new("clients that got ECONNREFUSED", "", refused.count()),
        Figure::new("the next client's connect took", "ms", Sample::new(times)),
    ];
    figures.extend(counts);
    Ok(Finding::new(judge(&outcomes), figures))
}

/// Connects clients to a listener until one doesn't succeed. Then accepts a
/// connection, and waits until this client succeeds, too. Returns the number of
/// connections in the full queue, and this client's outcome and time in ms.
fn overflow(backlog: usize) -> Result<(usize, Outcome, f64)> {
    let listener = net::listener_with_backlog(backlog as i32)?;
    let address = listener.local_addr()?;
    let mut queued = Vec::new();
    loop {
        let start = Instant::now();
        let (client, outcome) = connect(address)?;
        if outcome == Outcome::InProgress {
            listener.accept().context("accept")?;
            let later = wait(&client, net::PATIENCE)?;
            ensure!(later == Outcome::Connected, "{later:?} after accept");
        }
        if outcome != Outcome::Connected {
            let took = start.elapsed().as_secs_f64() * 1e3;
            return Ok((queued.len(), outcome, took));
        }
        queued.push(client);
        ensure!(queued.len() < 100, "the accept queue never fills");
        // For a listener, this field is the length of its accept queue.
        tcp::wait_until("the connection is in the accept queue", || {
            let length = tcp::info(&listener)?.tcpi_unacked;
            Ok(length as usize == queued.len())
        })?;
    }
}

/// Starts to connect, and waits until it is unlikely to succeed.
fn connect(address: SocketAddr) -> Result<(Socket, Outcome)> {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    match client.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return Ok((client, Outcome::Refused));
        }
        other => other.context("connect")?,
    }
    let outcome = wait(&client, UNANSWERED)?;
    Ok((client, outcome))
}

fn wait(client: &Socket, patience: Duration) -> Result<Outcome> {
    let deadline = Instant::now() + patience;
    if !wait_for(client, PollFlags::POLLOUT, deadline)? {
        return Ok(Outcome::InProgress);
    }
    match client.take_error()? {
        None => Ok(Outcome::Connected),
        Some(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Ok(Outcome::Refused)
        }
        Some(error) => bail!("connect: {error}"),
    }
}

/// Judges the first connect to each listener that did not succeed at once.
fn judge(outcomes: &[Outcome]) -> Answer {
    let all = |outcome| outcomes.iter().all(|it| *it == outcome);
    if all(Outcome::Refused) {
        Answer::True
    } else if all(Outcome::InProgress) {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{InProgress, Refused};
    use super::*;

    #[test]
    fn a_connect_that_continues_makes_it_false() {
        assert_eq!(judge(&[InProgress, InProgress]), Answer::False);
        assert_eq!(judge(&[Refused, Refused]), Answer::True);
        assert_eq!(judge(&[Refused, InProgress]), Answer::Undecided);
    }
}
