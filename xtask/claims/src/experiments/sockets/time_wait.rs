//! One of the two ends of a closed connection remains in TIME_WAIT: the one
//! that closed first.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use lab::Unsupported;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{namespace, net, tcp};

pub const CLAIM: Claim = Claim {
    id: "time-wait",
    claim: "After a connection has been closed, the client is in TIME_WAIT.",
    section: "circulates",
    criterion: "In some connections the client closes first, and in others the \
                server does. True if the client's end is in TIME_WAIT after \
                all of them, false if after none. It depends if it is in \
                TIME_WAIT after all connections that the client closed first, \
                and after no other.",
    if_false: History::NeverTrue,
    sources: &[
        "RFC 9293, section 3.6",
        "include/net/tcp.h, TCP_TIMEWAIT_LEN",
        "proc_pid_net(5), /proc/net/tcp",
    ],
    explanation: "The end that sends the first FIN sends the last ACK. It must \
                  remember the connection for some time: to repeat this ACK if \
                  it is lost, and to keep old segments out of a new connection \
                  between the same ports. Linux keeps TIME_WAIT for 60 s. A \
                  server that closes first collects these entries, and needs \
                  SO_REUSEADDR to bind its port again after a restart.",
    run,
    file: file!(),
};

/// The state TIME_WAIT in /proc/net/tcp (include/net/tcp_states.h).
const TIME_WAIT: &str = "06";

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

fn run(effort: Effort) -> Result<Finding> {
    // The table of a machine with many connections takes long to read. That of
    // a private network has these ones only.
    if let Err(error) = namespace::enter_private_network() {
        ensure!(error.is::<Unsupported>(), error);
    }
    let rounds = effort.pick(20, 3);
    let (mut client_first, mut server_first) = (0, 0);
    for _ in 0..rounds {
        client_first +=
            usize::from(end_in_time_wait(End::Client)? == End::Client);
        server_first +=
            usize::from(end_in_time_wait(End::Server)? == End::Client);
    }
    Ok(Finding::new(
        judge(client_first, server_first, rounds),
        [
            Figure::new("client in TIME_WAIT, server first", "", server_first),
            Figure::new("client in TIME_WAIT, client first", "", client_first),
            Figure::new("connections of each kind", "", rounds),
        ],
    ))
}

/// Closes a new connection at this end first. Returns the end that is in
/// TIME_WAIT afterwards.
fn end_in_time_wait(first: End) -> Result<End> {
    let (client, server) = net::connection()?;
    let (ours, theirs) = (client.local_addr()?, server.local_addr()?);
    match first {
        End::Client => close(client, server)?,
        End::Server => close(server, client)?,
    }
    let mut states = Vec::new();
    tcp::wait_until("an end is in TIME_WAIT, the other is closed", || {
        let table = fs::read_to_string("/proc/net/tcp")?;
        states = vec![
            (End::Client, state(&table, ours, theirs)),
            (End::Server, state(&table, theirs, ours)),
        ];
        states.retain(|(_, state)| state.is_some());
        Ok(states.iter().all(|(_, state)| state == &Some(TIME_WAIT.to_owned())))
    })?;
    match states.as_slice() {
        [(end, _)] => Ok(*end),
        _ => bail!("{} ends are in TIME_WAIT", states.len()),
    }
}

/// Closes an end, and the other when it has received EOF.
fn close(first: TcpStream, mut second: TcpStream) -> Result<()> {
    drop(first);
    let received = second.read(&mut [0; 1]).context("recv")?;
    ensure!(received == 0, "received {received} bytes instead of EOF");
    Ok(())
}

/// Returns the state of an end from /proc/net/tcp, or None if it is not there.
fn state(table: &str, local: SocketAddr, peer: SocketAddr) -> Option<String> {
    let (local, peer) = (in_hex(local), in_hex(peer));
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let found = [fields.next()?, fields.next()?] == [&local, &peer];
        fields.next().filter(|_| found).map(str::to_owned)
    })
}

/// Formats an IPv4 address as /proc/net/tcp does: the address as a number in
/// the processor's byte order, and the port.
fn in_hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { return String::new() };
    let number = u32::from_ne_bytes(address.ip().octets());
    format!("{number:08X}:{:04X}", address.port())
}

/// Judges in how many connections of each kind the client was in TIME_WAIT.
fn judge(client_first: usize, server_first: usize, rounds: usize) -> Answer {
    match (client_first, server_first) {
        (0, 0) => Answer::False,
        (c, s) if (c, s) == (rounds, rounds) => Answer::True,
        (c, 0) if c == rounds => Answer::Depends,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_the_end_that_closes_first() {
        assert_eq!(judge(9, 0, 9), Answer::Depends);
        assert_eq!(judge(9, 9, 9), Answer::True);
        assert_eq!(judge(0, 0, 9), Answer::False);
        assert_eq!(judge(9, 4, 9), Answer::Undecided);
    }
}
