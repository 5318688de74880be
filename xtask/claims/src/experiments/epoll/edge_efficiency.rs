//! Edge-triggered epoll reports less, but it has to be drained. The same
//! server loop runs in both modes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, net};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "edge-more-efficient",
    claim: "Edge-triggered epoll is more efficient than level-triggered epoll, \
            because it reports fewer events.",
    section: "epoll, modes: ET",
    criterion: "The processor time of an echo server per request in edge mode \
                (it reads until EAGAIN) is divided by that in level mode (one \
                recv per event). In one case it reads all requests at once, in \
                the other 63 of 64 sockets have data that it leaves unread. \
                True if edge mode takes less than 0.8 of the time in both \
                cases, false if in neither, depends if in one.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "fs/eventpoll.c, ep_send_events"],
    explanation: "If the server reads at once, both modes report a request \
                  once, and edge mode has to make one more recv to see EAGAIN, \
                  unless it ends at a short read. If the server leaves data \
                  unread, level mode reports it in each call, and each of \
                  these events costs time. Edge mode then reports only what is \
                  new.",
    run,
    file: file!(),
};

/// Connections.
const CLIENTS: usize = 64;

/// One segment.
const REQUEST: [u8; 64] = [b'x'; 64];

/// An echo server, its clients, and what it has needed.
#[derive(Debug)]
struct Echo {
    clients: Vec<TcpStream>,
    servers: Vec<TcpStream>,
    epoll: Epoll,
    mode: EpollFlags,
    /// The first ones of the sockets are served, the others left unread.
    served: usize,
    calls: usize,
    /// Processor time per request, in µs.
    costs: Vec<f64>,
}

fn run(effort: Effort) -> Result<Finding> {
    let rounds = effort.pick(31, 5);
    let [level, edge] = measure(CLIENTS, rounds)?;
    let [level_later, edge_later] = measure(1, rounds)?;
    let requests = (rounds * CLIENTS) as f64;
    let calls = [&level, &edge].map(|it| it.calls as f64 / requests);
    let [level, edge] = [level, edge].map(|it| Sample::new(it.costs));
    let [level_later, edge_later] =
        [level_later, edge_later].map(|it| Sample::new(it.costs));
    let at_once = edge.ratio(&level);
    let deferred = edge_later.ratio(&level_later);
    Ok(Finding::new(
        judge(&at_once, &deferred),
        [
            Figure::new("edge / level, read at once", "times", at_once),
            Figure::new("edge / level, others unread", "times", deferred),
            Figure::new("system calls per request, level", "", calls[0]),
            Figure::new("system calls per request, edge", "", calls[1]),
            Figure::new("request, read at once, level", "µs", level),
            Figure::new("request, others unread, level", "µs", level_later),
        ],
    ))
}

/// Measures a server in each mode, in turn.
fn measure(served: usize, rounds: usize) -> Result<[Echo; 2]> {
    let mut level = Echo::new(EpollFlags::empty(), served)?;
    let mut edge = Echo::new(EpollFlags::EPOLLET, served)?;
    for _ in 0..rounds {
        level.round()?;
        edge.round()?;
    }
    Ok([level, edge])
}

impl Echo {
    fn new(mode: EpollFlags, served: usize) -> Result<Self> {
        let pairs = (0..CLIENTS).map(|_| net::connection());
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let (mut clients, servers): (Vec<_>, Vec<_>) =
            pairs.into_iter().unzip();
        for server in &servers {
            server.set_nonblocking(true)?;
        }
        let epoll = watch::instance(&servers, mode)?;
        for client in &mut clients[served..] {
            client.write_all(&REQUEST)?;
        }
        let (calls, costs) = (0, Vec::new());
        Ok(Self { clients, servers, epoll, mode, served, calls, costs })
    }

    /// Exchanges as many requests as there are clients.
    fn round(&mut self) -> Result<()> {
        let mut spent = Duration::ZERO;
        for _ in 0..CLIENTS / self.served {
            for client in &mut self.clients[..self.served] {
                client.write_all(&REQUEST)?;
            }
            let start = clock::thread_cpu_time()?;
            self.serve()?;
            spent += clock::thread_cpu_time()? - start;
            for client in &mut self.clients[..self.served] {
                client.read_exact(&mut [0; REQUEST.len()])?;
            }
        }
        self.costs.push(spent.as_secs_f64() * 1e6 / CLIENTS as f64);
        Ok(())
    }

    /// Answers one request of each client that is served.
    fn serve(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); CLIENTS];
        let mut requests = 0;
        while requests < self.served {
            let count = self.epoll.wait(&mut events, watch::patience()?)?;
            self.calls += 1;
            ensure!(count > 0, "{requests} requests came");
            for event in &events[..count] {
                let place = event.data() as usize;
                if place < self.served {
                    self.echo(place)?;
                    requests += 1;
                }
            }
        }
        Ok(())
    }

    fn echo(&mut self, place: usize) -> Result<()> {
        let mut stream = &self.servers[place];
        let mut buffer = [0; 256];
        let received = stream.read(&mut buffer)?;
        ensure!(received == REQUEST.len(), "{received} bytes received");
        stream.write_all(&buffer[..received])?;
        self.calls += 2;
        if self.mode.contains(EpollFlags::EPOLLET) {
            let again = stream.read(&mut buffer).map_err(|it| it.kind());
            ensure!(again == Err(ErrorKind::WouldBlock), "not drained");
            self.calls += 1;
        }
        Ok(())
    }
}

/// Judges the time in edge mode relative to that in level mode.
fn judge(at_once: &Sample, deferred: &Sample) -> Answer {
    at_once.is_below(0.8).or_depends(deferred.is_below(0.8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_saving_of_two_makes_it_depend() {
        let sample = |it: f64| Sample::new(vec![it - 0.1, it, it + 0.1]);
        let answer =
            |at_once, deferred| judge(&sample(at_once), &sample(deferred));
        assert_eq!(answer(0.5, 0.5), Answer::True);
        assert_eq!(answer(1.2, 1.2), Answer::False);
        assert_eq!(answer(1.2, 0.5), Answer::Depends);
        assert_eq!(answer(0.8, 0.5), Answer::Undecided);
    }
}
