//! A receiver that spins sees data without being woken. That helps if the
//! sender has a processor of its own, and harms if both share one.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};
use lab::Unsupported;
use lab::process::allowed_processors;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::{getpid, gettid};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, net, task};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "busy-polling-latency",
    claim: "Busy polling lowers latency.",
    section: "circulates",
    criterion: "Two threads exchange datagrams, both by busy polling or both \
                by blocking receives. Depends if the median round trip of busy \
                polling is below 0.9 of the blocking one where each thread has \
                a processor, but not where both share one. True if in both \
                cases, false if in neither.",
    if_false: History::NeverTrue,
    sources: &["recv(2), MSG_DONTWAIT", "sched(7)", "sched_setaffinity(2)"],
    explanation: "A sleeping receiver must be woken and scheduled after the \
                  data has arrived, which takes longer than the receive \
                  itself; a spinning one finds the data in its next call. But \
                  a spinning thread keeps its processor until its time slice \
                  ends, so a thread on the same processor that has to answer \
                  waits for milliseconds.",
    run,
    file: file!(),
};

/// How a thread waits for a datagram.
#[derive(Clone, Copy)]
enum Wait {
    /// Non-blocking receives until one succeeds.
    Spin,
    /// A blocking receive.
    Block,
}

fn run(effort: Effort) -> Result<Finding> {
    let processors = allowed_processors(getpid(), gettid())?;
    let [one, other, ..] = processors[..] else {
        bail!(Unsupported::Tool("needs two processors".to_owned()));
    };
    let waits = [Wait::Spin, Wait::Block];
    let mut apart = [const { Vec::new() }; 2];
    for _ in 0..effort.pick(21, 5) {
        for (wait, times) in waits.into_iter().zip(&mut apart) {
            times.push(round_trip([one, other], wait, effort.pick(200, 50))?);
        }
    }
    let mut shared = [const { Vec::new() }; 2];
    for _ in 0..effort.pick(5, 3) {
        for (wait, times) in waits.into_iter().zip(&mut shared) {
            times.push(round_trip([one, one], wait, effort.pick(15, 5))?);
        }
    }
    let [spin, block] = apart.map(Sample::new);
    let [shared_spin, shared_block] = shared.map(Sample::new);
    let (apart, shared) =
        (spin.ratio(&block), shared_spin.ratio(&shared_block));
    Ok(Finding::new(
        judge(&apart, &shared),
        [
            Figure::new("spin / block, a processor each", "times", apart),
            Figure::new("spin / block, one processor", "times", shared),
            Figure::new("spin, a processor each", "µs", spin),
            Figure::new("block, a processor each", "µs", block),
            Figure::new("spin, one processor", "µs", shared_spin),
            Figure::new("block, one processor", "µs", shared_block),
        ],
    ))
}

/// Returns the median round trip between threads on these processors, in µs.
fn round_trip(processors: [usize; 2], wait: Wait, trips: usize) -> Result<f64> {
    let (client, server) = net::datagram_sockets()?;
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            task::run_on(processors[1])?;
            for _ in 0..trips {
                receive(&server, wait)?;
                server.send(b"x")?;
            }
            Ok(())
        });
        task::run_on(processors[0])?;
        let times = Sample::collect(trips, || {
            clock::micros(|| {
                client.send(b"x")?;
                receive(&client, wait)
            })
        });
        echo.join().map_err(|_| anyhow!("the echoing thread"))??;
        Ok(times?.median())
    })
}

fn receive(socket: &UdpSocket, wait: Wait) -> Result<()> {
    let fd = socket.as_raw_fd();
    let deadline = Instant::now() + net::PATIENCE;
    let flags = match wait {
        Wait::Spin => MsgFlags::MSG_DONTWAIT,
        Wait::Block => MsgFlags::empty(),
    };
    loop {
        match recv(fd, &mut [0], flags) {
            Err(Errno::EAGAIN) => {
                ensure!(Instant::now() < deadline, "no datagram");
            }
            received => {
                ensure!(received? == 1, "a datagram");
                return Ok(());
            }
        }
    }
}

/// Judges busy polling's round trip as a part of the blocking one, on two
/// processors and on one.
fn judge(apart: &Sample, shared: &Sample) -> Answer {
    apart.is_below(0.9).or_depends(shared.is_below(0.9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_in_one_of_two_cases_depends() {
        let answer = |apart: &[f64], shared: f64| {
            judge(&Sample::new(apart.to_vec()), &shared.into())
        };
        assert_eq!(answer(&[0.3, 0.4], 0.5), Answer::True);
        assert_eq!(answer(&[0.3, 0.4], 200.0), Answer::Depends);
        assert_eq!(answer(&[1.0, 1.1], 200.0), Answer::False);
        assert_eq!(answer(&[0.3, 1.1], 200.0), Answer::Undecided);
    }
}
