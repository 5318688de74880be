//! A server of one thread that receives with blocking calls waits for one
//! client, and meanwhile looks at no other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use lab::process::wait_readable;
use nix::unistd::{Pid, gettid};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{net, task};
use crate::sample::{Sample, percent};

pub const CLAIM: Claim = Claim {
    id: "blocking-and-many",
    claim: "A server of one thread with blocking I/O serves one client at a \
            time.",
    section: "How a server handles more clients",
    criterion: "Two clients are connected, and the first one is silent. True \
                if the second never gets a reply to its request within 100 ms, \
                while the server sleeps in recv, and gets it after the first \
                has left. False if it gets a reply while the first one is \
                connected.",
    if_false: History::NeverTrue,
    sources: &["recv(2)", "accept(2)", "listen(2)"],
    explanation: "The thread sleeps in the receive from the first client. The \
                  kernel completes the second client's handshake, puts the \
                  connection into the accept queue and stores its request, so \
                  the second client sees a connection but no reply. Only a \
                  second thread, or a call that waits for several descriptors, \
                  can change that.",
    run,
    file: file!(),
};

/// How long the first client is silent after the second one's request.
const SILENCE: Duration = Duration::from_millis(100);

fn run(effort: Effort) -> Result<Finding> {
    let listener = net::listener()?;
    let address = listener.local_addr()?;
    let rounds = effort.pick(10, 2);
    let (send_tid, tid) = mpsc::channel();
    let server = thread::spawn(move || -> Result<()> {
        send_tid.send(gettid())?;
        serve(&listener, 2 * rounds)
    });
    let tid = tid.recv_timeout(net::PATIENCE).context("no server")?;
    let mut early = 0;
    let (mut alone, mut after) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let round = round(address, tid)?;
        early += usize::from(round.early);
        alone.push(round.alone);
        after.push(round.after);
    }
    server.join().map_err(|_| anyhow!("the server's thread"))??;
    let percent = percent(early, rounds);
    let [alone, after] = [alone, after].map(Sample::new);
    Ok(Finding::new(
        judge(early),
        [
            Figure::new("second clients with a reply", "%", percent),
            Figure::new("first client's round trip", "µs", alone),
            Figure::new("second reply, after the first left", "µs", after),
        ],
    ))
}

/// Serves this many clients, one after the other: returns each byte.
fn serve(listener: &TcpListener, clients: usize) -> Result<()> {
    for _ in 0..clients {
        let (mut client, _) = listener.accept()?;
        let mut byte = [0];
        while client.read(&mut byte)? > 0 {
            client.write_all(&byte)?;
        }
    }
    Ok(())
}

/// Two clients: times in µs.
struct Round {
    /// The second client got its reply while the first was connected.
    early: bool,
    /// The first client's round trip.
    alone: f64,
    /// From the first client's end to the second one's reply.
    after: f64,
}

fn round(address: SocketAddr, server: Pid) -> Result<Round> {
    let connect = || -> Result<TcpStream> {
        let client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(net::PATIENCE))?;
        Ok(client)
    };
    let micros = |start: Instant| start.elapsed().as_secs_f64() * 1e6;
    let (mut first, mut second) = (connect()?, connect()?);
    let mut reply = [0];
    let start = Instant::now();
    first.write_all(b"1")?;
    first.read_exact(&mut reply)?;
    let alone = micros(start);
    second.write_all(b"2")?;
    let early = wait_readable(&second, Instant::now() + SILENCE)?;
    if !early {
        // The server is not slow: it waits for the first client.
        task::wait_until_asleep(server, libc::SYS_recvfrom)?;
    }
    let start = Instant::now();
    drop(first);
    second.read_exact(&mut reply).context("the second client's reply")?;
    Ok(Round { early, alone, after: micros(start) })
}

/// Judges the number of second clients that got a reply in the first one's
/// presence.
fn judge(early: usize) -> Answer {
    Answer::from_bool(early == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reply_in_the_presence_of_the_first_client_makes_it_false() {
        assert_eq!(judge(0), Answer::True);
        assert_eq!(judge(1), Answer::False);
    }
}
