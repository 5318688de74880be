//! A listener's accept queue is full when it has one connection more than the
//! backlog of listen(2). The kernel then drops the SYN of the next client.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
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
    ],
    explanation: "Linux drops a SYN that finds the accept queue full. The \
                  client repeats it after 1 s, so connect takes longer instead \
                  of failing. net.ipv4.tcp_abort_on_overflow resets \
                  connections, but only those that find the queue full at the \
                  end of their handshake. ECONNREFUSED means that no socket \
                  listens on the port.",
    run,
    file: file!(),
};

/// The backlogs of the listeners.
const BACKLOGS: [usize; 3] = [0, 1, 8];

/// The time after which a connect counts as not answered. A handshake on
/// loopback requires less than 1 ms, a repeated SYN 1 s.
const UNANSWERED: Duration = Duration::from_millis(300);

/// What became of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Connected,
    Refused,
    InProgress,
}

fn run(effort: Effort) -> Result<Finding> {
    let backlogs = &BACKLOGS[..effort.pick(BACKLOGS.len(), 1)];
    let queues: Vec<_> =
        backlogs.iter().map(|it| Queue::fill(*it)).collect::<Result<_>>()?;
    let outcomes: Vec<_> = queues.iter().map(|queue| queue.outcome).collect();
    let mut figures = vec![Figure::new(
        "connects that failed with ECONNREFUSED",
        "",
        outcomes.iter().filter(|it| **it == Outcome::Refused).count(),
    )];
    for (queue, backlog) in queues.iter().zip(backlogs) {
        let name = format!("connects that succeeded with backlog {backlog}");
        figures.push(Figure::new(&name, "", queue.connected.len()));
    }
    for queue in &queues {
        queue.listener.accept().context("accept")?;
    }
    // The clients repeat their SYNs at the same time.
    let in_progress = queues.iter().filter(|it| it.is_in_progress());
    let times = in_progress.map(Queue::wait_until_connected);
    let times = times.collect::<Result<Vec<_>>>()?;
    if !times.is_empty() {
        let name = "time that the next connect took";
        figures.push(Figure::new(name, "ms", Sample::new(times)));
    }
    Ok(Finding::new(judge(&outcomes), figures))
}

/// A listener with a full accept queue.
#[derive(Debug)]
struct Queue {
    listener: TcpListener,
    connected: Vec<Socket>,
    /// The client that found the queue full.
    next: Socket,
    started: Instant,
    outcome: Outcome,
}

impl Queue {
    /// Connects clients until one doesn't succeed.
    fn fill(backlog: usize) -> Result<Self> {
        let listener = net::listener_with_backlog(backlog as i32)?;
        let address = listener.local_addr()?;
        let mut connected = Vec::new();
        loop {
            let started = Instant::now();
            let (next, outcome) = connect(address)?;
            if outcome != Outcome::Connected {
                return Ok(Self {
                    listener,
                    connected,
                    next,
                    started,
                    outcome,
                });
            }
            connected.push(next);
            ensure!(connected.len() < 100, "the accept queue never fills");
            // For a listener, this field is the length of its accept queue.
            tcp::wait_until("the connection is in the accept queue", || {
                let queued = tcp::info(&listener)?.tcpi_unacked as usize;
                Ok(queued == connected.len())
            })?;
        }
    }

    fn is_in_progress(&self) -> bool {
        self.outcome == Outcome::InProgress
    }

    /// Returns how long the connect took in total, in ms.
    fn wait_until_connected(&self) -> Result<f64> {
        let outcome = outcome(&self.next, net::PATIENCE)?;
        let took = self.started.elapsed().as_secs_f64() * 1e3;
        ensure!(outcome == Outcome::Connected, "{outcome:?} after an accept");
        Ok(took)
    }
}

/// Starts to connect, and waits until it is unlikely to succeed.
fn connect(address: SocketAddr) -> Result<(Socket, Outcome)> {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    match client.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => other.context("connect")?,
    }
    let outcome = outcome(&client, UNANSWERED)?;
    Ok((client, outcome))
}

fn outcome(client: &Socket, patience: Duration) -> Result<Outcome> {
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
