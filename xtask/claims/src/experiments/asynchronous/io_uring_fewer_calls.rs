//! A server with epoll makes one call to wait, and two per client that is
//! ready; one with io_uring makes one call for everything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use anyhow::{Result, anyhow};

use super::servers::{LENGTH, with_epoll, with_ring};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "io-uring-fewer-calls",
    claim: "io_uring needs fewer system calls than epoll.",
    section: "circulates",
    criterion: "Servers of one thread answer 1 client, and 32 clients that \
                send at the same time; the calls that a server makes are \
                counted. True if io_uring makes fewer calls per request in \
                both cases. Depends if only in one of them, false if in \
                neither.",
    if_false: History::NeverTrue,
    sources: &["io_uring_enter(2)", "epoll_wait(2)"],
    explanation: "epoll reports readiness, so each request costs a recv and a \
                  send, and a part of an epoll_wait. io_uring_enter submits \
                  the sends and the next receives of all clients, and waits, \
                  in one call. With one client that is one call in place of \
                  three. The number of calls is not the time: io_uring_enter \
                  does the work of the calls that it replaces.",
    run,
    file: file!(),
};

/// The clients of the second case.
const MANY: usize = 32;

fn run(effort: Effort) -> Result<Finding> {
    let requests = effort.pick(1600, 320);
    let mut calls = [const { Vec::new() }; 4];
    let cases = [(1, true), (1, false), (MANY, true), (MANY, false)];
    for _ in 0..effort.pick(7, 3) {
        for ((clients, is_ring), calls) in cases.into_iter().zip(&mut calls) {
            let server = if is_ring { with_ring } else { with_epoll };
            calls.push(calls_per_request(clients, requests / clients, server)?);
        }
    }
    let [one_ring, one_epoll, many_ring, many_epoll] = calls.map(Sample::new);
    let one = one_ring.ratio(&one_epoll);
    let many = many_ring.ratio(&many_epoll);
    let figure = |what, sample| {
        Figure::new(&format!("calls per request, {what}"), "", sample)
    };
    Ok(Finding::new(
        judge(&one, &many),
        [
            Figure::new("io_uring / epoll, 1 client", "times", one),
            Figure::new("io_uring / epoll, 32 clients", "times", many),
            figure("io_uring, 1 client", one_ring),
            figure("epoll, 1 client", one_epoll),
            figure("io_uring, 32 clients", many_ring),
            figure("epoll, 32 clients", many_epoll),
        ],
    ))
}

/// Answers this number of requests per client, and returns its system calls.
type Server = fn(&[TcpStream], usize) -> Result<usize>;

/// Counts a server's calls while a thread with all the clients sends one
/// request from each, reads all replies, and repeats that.
fn calls_per_request(
    clients: usize,
    rounds: usize,
    serve: Server,
) -> Result<f64> {
    let pairs = (0..clients).map(|_| net::connection());
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    let (mut clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let converse = thread::spawn(move || -> Result<()> {
        for _ in 0..rounds {
            for client in &mut clients {
                client.write_all(&[b'x'; LENGTH])?;
            }
            for client in &mut clients {
                client.read_exact(&mut [0; LENGTH])?;
            }
        }
        Ok(())
    });
    let calls = serve(&servers, rounds)?;
    converse.join().map_err(|_| anyhow!("the clients' thread"))??;
    Ok(calls as f64 / (servers.len() * rounds) as f64)
}

/// Judges io_uring's calls per request as a part of epoll's, with one client
/// and with many.
fn judge(one: &Sample, many: &Sample) -> Answer {
    one.is_below(1.0).or_depends(many.is_below(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_calls_in_both_cases_make_it_true() {
        let answer = |one: &[f64], many: f64| {
            judge(&Sample::new(one.to_vec()), &many.into())
        };
        assert_eq!(answer(&[0.3, 0.3], 0.02), Answer::True);
        assert_eq!(answer(&[1.0, 1.0], 0.02), Answer::Depends);
        assert_eq!(answer(&[1.0, 1.3], 1.1), Answer::False);
        assert_eq!(answer(&[0.3, 1.3], 0.02), Answer::Undecided);
    }
}
