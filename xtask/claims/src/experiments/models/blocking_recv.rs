//! A thread that calls recv(2) on a blocking socket sleeps in the call, and
//! continues when the data has been copied.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::unistd::gettid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, net, task};
use crate::sample::{Sample, percent};

pub const CLAIM: Claim = Claim {
    id: "blocking-recv",
    claim: "A blocking receive puts the thread to sleep, and returns when the \
            data is in the caller's buffer.",
    section: "Socket I/O, blocking I/O",
    criterion: "True if each receive still sleeps when the data is sent, has \
                all of it in the buffer when it returns, and uses less than \
                10% of the time between as processor time. False if a receive \
                returns before the data is sent or without it, or if three \
                quarters of them use 10% or more.",
    if_false: History::NeverTrue,
    sources: &["recv(2)", "net/ipv4/tcp.c, tcp_recvmsg", "proc_pid_syscall(5)"],
    explanation: "While the receive buffer is empty, the kernel takes the \
                  thread off the processor, so waiting costs no processor \
                  time. The arrival wakes the thread, which then copies the \
                  bytes into the caller's buffer inside the same call. The \
                  model has both phases in one call: the wait and the copy.",
    run,
    file: file!(),
};

/// How long no data is sent.
const SILENCE: Duration = Duration::from_millis(20);

/// Bytes that are sent and received.
const LENGTH: usize = 4096;

/// One receive, as seen from both threads.
struct Receive {
    /// The receiver was still asleep after `SILENCE`, right before the send.
    slept: bool,
    /// The buffer had all the bytes when the call returned.
    has_filled: bool,
    /// The part of the call's time that was processor time, in %.
    cpu: f64,
}

fn run(effort: Effort) -> Result<Finding> {
    let (mut client, mut server) = net::connection()?;
    let rounds = effort.pick(40, 5);
    let receives = (0..rounds).map(|_| receive(&mut client, &mut server));
    let receives = receives.collect::<Result<Vec<_>>>()?;
    let percent = |is: fn(&Receive) -> bool| {
        let part = receives.iter().filter(|it| is(it)).count();
        percent(part, rounds)
    };
    let (slept, filled) = (percent(|it| it.slept), percent(|it| it.has_filled));
    let cpu = Sample::new(receives.iter().map(|it| it.cpu).collect());
    Ok(Finding::new(
        judge(slept, filled, &cpu),
        [
            Figure::new("buffer filled when the call returns", "%", filled),
            Figure::new("asleep until the data is sent", "%", slept),
            Figure::new("processor time, of the call's time", "%", cpu),
        ],
    ))
}

/// Starts a receive, and sends the data after `SILENCE`.
fn receive(client: &mut TcpStream, server: &mut TcpStream) -> Result<Receive> {
    let (send_tid, tid) = mpsc::channel();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || -> Result<_> {
            let mut buffer = [0; LENGTH];
            send_tid.send(gettid())?;
            let (start, cpu) = (Instant::now(), clock::thread_cpu_time()?);
            let received = server.read(&mut buffer)?;
            let cpu = clock::thread_cpu_time()? - cpu;
            let part = cpu.as_secs_f64() / start.elapsed().as_secs_f64();
            let has_filled = received == LENGTH && buffer == [b'x'; LENGTH];
            Ok((has_filled, 100.0 * part))
        });
        let tid = tid.recv_timeout(net::PATIENCE).context("no thread")?;
        task::wait_until_asleep(tid, libc::SYS_recvfrom)?;
        thread::sleep(SILENCE);
        let slept = !receiver.is_finished()
            && task::sleeps_in(tid, libc::SYS_recvfrom)?;
        client.write_all(&[b'x'; LENGTH])?;
        let ended = receiver.join().map_err(|_| anyhow!("receiver"))?;
        let (has_filled, cpu) = ended?;
        Ok(Receive { slept, has_filled, cpu })
    })
}

fn judge(slept: f64, filled: f64, cpu: &Sample) -> Answer {
    if slept < 100.0 || filled < 100.0 {
        return Answer::False;
    }
    cpu.is_below(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_sleeps_and_fills_the_buffer_or_it_is_false() {
        let cpu = |values: &[f64]| Sample::new(values.to_vec());
        assert_eq!(judge(100.0, 100.0, &cpu(&[0.1, 0.2])), Answer::True);
        assert_eq!(judge(90.0, 100.0, &cpu(&[0.1, 0.2])), Answer::False);
        assert_eq!(judge(100.0, 90.0, &cpu(&[0.1, 0.2])), Answer::False);
        assert_eq!(judge(100.0, 100.0, &cpu(&[97.0, 99.0])), Answer::False);
        assert_eq!(judge(100.0, 100.0, &cpu(&[1.0, 50.0])), Answer::Undecided);
    }
}
