//! The kernel completes the handshake of a listener by itself: connect returns,
//! and data arrives, before the server calls accept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{net, tcp};

pub const CLAIM: Claim = Claim {
    id: "connect-before-accept",
    claim: "A client can connect and send before the server calls accept.",
    section: "Socket communication, the three-way handshake",
    criterion: "The server has called listen but not accept. True if connect \
                returns, and the server's kernel acknowledges all bytes that \
                the client sends. False if one of the two doesn't happen.",
    if_false: History::NeverTrue,
    sources: &["listen(2)", "accept(2)", "RFC 9293, section 3.5"],
    explanation: "The kernel answers the SYN of a listener's client. With the \
                  client's ACK, the third packet of the handshake, it puts the \
                  connection into the accept queue and stores data that \
                  arrives. accept removes a connection from this queue and \
                  sends no packet, so it waits only while the queue is empty.",
    run,
    file: file!(),
};

/// The bytes that the client sends.
const REQUEST: &[u8] = b"request";

fn run(effort: Effort) -> Result<Finding> {
    let rounds = effort.pick(50, 5);
    let mut early = 0;
    while early < rounds && is_served_by_kernel()? {
        early += 1;
    }
    Ok(Finding::new(
        judge(early, rounds),
        [
            Figure::new("requests acknowledged before accept", "", early),
            Figure::new("connections", "", rounds),
        ],
    ))
}

/// Connects and sends, then accepts. Returns whether the client's bytes had
/// been acknowledged before the call of accept.
fn is_served_by_kernel() -> Result<bool> {
    let listener = net::listener()?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect_timeout(&address, net::PATIENCE);
    let Ok(mut client) = client else { return Ok(false) };
    let before = tcp::info(&client)?.tcpi_bytes_acked;
    client.write_all(REQUEST).context("send")?;
    let is_acknowledged =
        tcp::wait_until("the request is acknowledged", || {
            let acknowledged = tcp::info(&client)?.tcpi_bytes_acked - before;
            Ok(acknowledged == REQUEST.len() as u64)
        })
        .is_ok();

    let (mut server, _) = listener.accept().context("accept")?;
    server.set_read_timeout(Some(net::PATIENCE))?;
    let mut received = [0; REQUEST.len()];
    server.read_exact(&mut received).context("recv")?;
    ensure!(received == REQUEST, "received {received:?}");
    Ok(is_acknowledged)
}

fn judge(early: usize, rounds: usize) -> Answer {
    Answer::from_bool(early == rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_that_waits_for_accept_makes_it_false() {
        assert_eq!(judge(10, 10), Answer::True);
        assert_eq!(judge(0, 10), Answer::False);
    }
}
