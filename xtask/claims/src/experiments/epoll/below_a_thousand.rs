//! The number of descriptors from which epoll is cheaper than poll.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::EpollFlags;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{cpu, net};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "epoll-below-a-thousand",
    claim: "With fewer than 1,000 descriptors epoll has no advantage over \
            poll.",
    section: "Uses of select, poll and epoll",
    criterion: "A byte is sent to one of 1, 10, 100 and 999 sockets, waited \
                for and received. True if this takes at most 1.5 times as \
                much processor time with poll as with epoll, for each number. \
                False if it takes more for at least one.",
    if_false: History::NeverTrue,
    sources: &["poll(2)", "epoll(7)", "fs/select.c, do_sys_poll"],
    explanation: "poll asks each file of its array in each call, and joins \
                  the wait queues of those before the first ready one. With \
                  one file this is as fast as the ready list of epoll; with a \
                  hundred it is most of the time of the exchange. The cost \
                  grows with each file, so there is no threshold at 1,000.",
    run,
    file: file!(),
};

/// Numbers of watched sockets.
const SIZES: [usize; 4] = [1, 10, 100, 999];

/// Exchanges per measurement.
const CALLS: usize = 100;

/// The two ends of a connection.
type Pair = (UnixStream, UnixStream);

fn run(effort: Effort) -> Result<Finding> {
    let pairs = (0..SIZES[3]).map(|_| UnixStream::pair());
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let mut ratios = [const { Vec::new() }; 4];
    let mut epoll_costs = Vec::new();
    for _ in 0..effort.pick(21, 3) {
        for (size, ratios) in SIZES.into_iter().zip(&mut ratios) {
            let epoll = epoll_cost(&pairs[..size])?;
            ratios.push(poll_cost(&pairs[..size])? / epoll);
            epoll_costs.push(epoll);
        }
    }
    let ratios = ratios.map(Sample::new);
    let answer = judge(&ratios);
    let [one, ten, hundred, most] = ratios;
    Ok(Finding::new(
        answer,
        [
            Figure::new("poll / epoll, 100 sockets", "times", hundred),
            Figure::new("poll / epoll, 1 socket", "times", one),
            Figure::new("poll / epoll, 10 sockets", "times", ten),
            Figure::new("poll / epoll, 999 sockets", "times", most),
            Figure::new("epoll, all numbers", "µs", Sample::new(epoll_costs)),
        ],
    ))
}

/// Returns the processor time of a send, epoll_wait and recv, in µs.
fn epoll_cost(pairs: &[Pair]) -> Result<f64> {
    let servers = pairs.iter().map(|(_, server)| server);
    let epoll = watch::instance(servers, EpollFlags::empty())?;
    let (mut client, mut server) = active(pairs);
    cpu::mean_micros(CALLS, || {
        client.write_all(b"x")?;
        watch::expect_one(&epoll)?;
        anyhow::Ok(server.read_exact(&mut [0])?)
    })
}

/// Returns the processor time of a send, poll and recv, in µs.
fn poll_cost(pairs: &[Pair]) -> Result<f64> {
    let servers = pairs.iter().map(|(_, server)| server.as_fd());
    let entries = servers.map(|it| PollFd::new(it, PollFlags::POLLIN));
    let mut array: Vec<_> = entries.collect();
    let timeout = PollTimeout::try_from(net::PATIENCE)?;
    let (mut client, mut server) = active(pairs);
    cpu::mean_micros(CALLS, || {
        client.write_all(b"x")?;
        let ready = poll(&mut array, timeout)?;
        ensure!(ready == 1, "{ready} sockets are ready instead of one");
        Ok(server.read_exact(&mut [0])?)
    })
}

/// Returns the connection that is used, in the middle of the array.
fn active(pairs: &[Pair]) -> (&UnixStream, &UnixStream) {
    let (client, server) = &pairs[pairs.len() / 2];
    (client, server)
}

/// Judges poll's time relative to epoll's, for each number of sockets.
fn judge(ratios: &[Sample]) -> Answer {
    let slower: Vec<_> = ratios.iter().map(|it| it.is_above(1.5)).collect();
    if slower.contains(&Answer::True) {
        Answer::False
    } else if slower.contains(&Answer::Undecided) {
        Answer::Undecided
    } else {
        Answer::True
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_with_an_advantage_makes_it_false() {
        let sample = |it: f64| Sample::new(vec![it - 0.1, it, it + 0.1]);
        let answer = |some, more| judge(&[sample(some), sample(more)]);
        assert_eq!(answer(0.9, 1.2), Answer::True);
        assert_eq!(answer(0.9, 9.0), Answer::False);
        assert_eq!(answer(1.5, 9.0), Answer::False);
        assert_eq!(answer(0.9, 1.5), Answer::Undecided);
    }
}
