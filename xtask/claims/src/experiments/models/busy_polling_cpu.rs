//! A thread that asks again and again whether data has arrived never gives up
//! its processor, however little arrives.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, net, task};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "busy-polling-cpu",
    claim: "Busy polling uses a whole processor, even if little data arrives.",
    section: "Socket I/O, non-blocking I/O",
    criterion: "A datagram arrives about every millisecond. True if a thread \
                that polls with non-blocking receives uses more than 90% of \
                the time in which it could run, and a thread with blocking \
                receives less than 20%, in three quarters of the rounds. False \
                if three quarters of the rounds of one of them contradict \
                that.",
    if_false: History::NeverTrue,
    sources: &[
        "recv(2), MSG_DONTWAIT",
        "Documentation/scheduler/sched-stats.rst",
    ],
    explanation: "A receive that fails with EAGAIN leaves the thread ready to \
                  run, and the thread calls again at once. To the scheduler \
                  this is work like any other, so it takes all the time that \
                  it can get. A blocking receive takes the thread off the \
                  processor until data arrives.",
    run,
    file: file!(),
};

/// The time between two datagrams, and their number per round.
const INTERVAL: Duration = Duration::from_millis(1);
const DATAGRAMS: usize = 40;

fn run(effort: Effort) -> Result<Finding> {
    let (client, server) = net::datagram_sockets()?;
    let (mut polling, mut blocking) = (Vec::new(), Vec::new());
    let (mut calls, rounds) = (0, effort.pick(15, 3));
    for _ in 0..rounds {
        let poller = round(&client, || poll(&server, &mut calls))?;
        polling.push(poller);
        blocking.push(round(&client, || block(&server))?);
    }
    let (polling, blocking) = (Sample::new(polling), Sample::new(blocking));
    let calls = calls as f64 / (rounds * DATAGRAMS) as f64;
    Ok(Finding::new(
        judge(&polling, &blocking),
        [
            Figure::new("processor time of busy polling", "%", polling),
            Figure::new("processor time of blocking receives", "%", blocking),
            Figure::new("receives per datagram of busy polling", "", calls),
        ],
    ))
}

/// Sends datagrams to this thread, which calls `receive` for each. Returns its
/// processor time as a part of the time in which it could run, in %: while
/// other threads have the processors, it can't.
fn round(
    client: &UdpSocket,
    mut receive: impl FnMut() -> Result<()>,
) -> Result<f64> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            (0..DATAGRAMS).try_for_each(|_| {
                thread::sleep(INTERVAL);
                client.send(b"x").map(drop)
            })
        });
        let (start, cpu) = (Instant::now(), clock::thread_cpu_time()?);
        let queued = task::time_in_run_queue()?;
        (0..DATAGRAMS).try_for_each(|_| receive())?;
        let queued = task::time_in_run_queue()? - queued;
        let cpu = clock::thread_cpu_time()? - cpu;
        let possible = start.elapsed().saturating_sub(queued).max(cpu);
        sender.join().map_err(|_| anyhow!("the sender's thread"))??;
        Ok(100.0 * cpu.as_secs_f64() / possible.as_secs_f64())
    })
}

/// Receives one datagram by asking until it is there. Counts the calls.
fn poll(server: &UdpSocket, calls: &mut usize) -> Result<()> {
    let deadline = Instant::now() + net::PATIENCE;
    loop {
        *calls += 1;
        let mut byte = [0];
        match recv(server.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) {
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

/// Receives one datagram by waiting for it.
fn block(server: &UdpSocket) -> Result<()> {
    ensure!(server.recv(&mut [0])? == 1, "a datagram");
    Ok(())
}

fn judge(polling: &Sample, blocking: &Sample) -> Answer {
    match (polling.is_above(90.0), blocking.is_below(20.0)) {
        (Answer::True, Answer::True) => Answer::True,
        (Answer::False, _) | (_, Answer::False) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poller_that_sleeps_makes_it_false() {
        let answer = |polling: &[f64], blocking: &[f64]| {
            let samples = [polling, blocking].map(|it| Sample::new(it.into()));
            judge(&samples[0], &samples[1])
        };
        assert_eq!(answer(&[99.0, 98.0], &[2.0, 3.0]), Answer::True);
        assert_eq!(answer(&[2.0, 3.0], &[2.0, 3.0]), Answer::False);
        assert_eq!(answer(&[99.0, 98.0], &[80.0, 90.0]), Answer::False);
        assert_eq!(answer(&[50.0, 99.0], &[2.0, 3.0]), Answer::Undecided);
    }
}
