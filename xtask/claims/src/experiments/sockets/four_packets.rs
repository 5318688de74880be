//! The end of a connection: each side sends a FIN, and each FIN is
//! acknowledged, but an ACK can be in the same packet as a FIN.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{net, tcp};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "four-packets",
    claim: "Four packets end a TCP connection.",
    section: "Socket communication, the four-way handshake",
    criterion: "The client closes, and the server closes either at once when \
                it receives EOF, or after its kernel has acknowledged the FIN. \
                True if both orders require four packets in more than three \
                quarters of the connections, false if both do in at most a \
                quarter of them. It depends if only one of the two requires \
                four.",
    if_false: History::NeverTrue,
    sources: &[
        "RFC 9293, section 3.6",
        "net/ipv4/tcp_input.c, tcp_fin",
        "tcp(7), TCP_INFO",
    ],
    explanation: "Linux delays the ACK of a FIN, by some 40 ms. If the program \
                  closes within this time, its FIN contains the ACK, and three \
                  packets end the connection: FIN, FIN with ACK, ACK. There \
                  are four if one side still has something to do after EOF, or \
                  if both send their FIN before they receive the other's.",
    run,
    file: file!(),
};

/// The state of a socket without a connection (include/net/tcp_states.h).
const TCP_CLOSE: u8 = 7;

/// When the server closes.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// When it receives EOF.
    AtOnce,
    /// After its kernel has acknowledged the client's FIN.
    Later,
}

fn run(effort: Effort) -> Result<Finding> {
    let (mut at_once, mut later, mut delays) = (vec![], vec![], vec![]);
    for _ in 0..effort.pick(40, 4) {
        let (packets, _) = end(Server::AtOnce)?;
        at_once.push(packets);
        let (packets, delay) = end(Server::Later)?;
        later.push(packets);
        delays.push(delay);
    }
    let [at_once, later, delays] = [at_once, later, delays].map(Sample::new);
    Ok(Finding::new(
        judge(&at_once, &later),
        [
            Figure::new("packets if the server closes at EOF", "", at_once),
            Figure::new("packets if the server closes later", "", later),
            Figure::new("delay of the ACK of the first FIN", "ms", delays),
        ],
    ))
}

/// Ends both directions of a connection. shutdown sends the same FIN as close,
/// but the counters remain readable. Returns the number of packets, and the
/// time in ms after which the server closed.
fn end(when: Server) -> Result<(f64, f64)> {
    let (client, server) = used_connection()?;
    let (by_client, by_server) = (sent(&client)?, sent(&server)?);
    client.shutdown(Shutdown::Write).context("shutdown")?;
    let start = Instant::now();
    expect_eof(&server)?;
    if let Server::Later = when {
        tcp::wait_until("the client's FIN is acknowledged", || {
            Ok(sent(&server)? > by_server)
        })?;
    }
    let closed_after = start.elapsed().as_secs_f64() * 1e3;
    server.shutdown(Shutdown::Write).context("shutdown")?;
    expect_eof(&client)?;
    tcp::wait_until("the server's FIN is acknowledged", || {
        Ok(tcp::info(&server)?.tcpi_state == TCP_CLOSE)
    })?;
    let packets = sent(&client)? + sent(&server)? - by_client - by_server;
    Ok((packets.into(), closed_after))
}

/// Returns a connection on which a request and a reply were acknowledged.
fn used_connection() -> Result<(TcpStream, TcpStream)> {
    let (mut client, mut server) = net::connection()?;
    let mut buffer = [0; 1];
    client.write_all(b"x").context("send")?;
    server.read_exact(&mut buffer).context("recv")?;
    server.write_all(b"y").context("send")?;
    client.read_exact(&mut buffer).context("recv")?;
    tcp::wait_until("everything is acknowledged", || {
        let unacked = |end| tcp::info(end).map(|it| it.tcpi_unacked);
        Ok(unacked(&client)? + unacked(&server)? == 0)
    })?;
    Ok((client, server))
}

fn expect_eof(mut socket: &TcpStream) -> Result<()> {
    let received = socket.read(&mut [0; 1]).context("recv")?;
    ensure!(received == 0, "received {received} bytes instead of EOF");
    Ok(())
}

/// Returns the number of packets that this end has sent.
fn sent(socket: &TcpStream) -> Result<u32> {
    Ok(tcp::info(socket)?.tcpi_segs_out)
}

fn judge(at_once: &Sample, later: &Sample) -> Answer {
    let is_four = |packets: &Sample| {
        let four = packets.values().iter().map(|it| f64::from(*it == 4.0));
        Sample::new(four.collect()).is_above(0.5)
    };
    is_four(at_once).or_depends(is_four(later))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_if_only_one_order_requires_four() {
        let answer = |at_once: &[f64], later: &[f64]| {
            judge(&Sample::new(at_once.to_vec()), &Sample::new(later.to_vec()))
        };
        assert_eq!(answer(&[3.0, 3.0], &[4.0, 4.0]), Answer::Depends);
        assert_eq!(answer(&[4.0, 4.0], &[4.0, 4.0]), Answer::True);
        assert_eq!(answer(&[3.0, 3.0], &[3.0, 5.0]), Answer::False);
        assert_eq!(answer(&[3.0, 4.0], &[4.0, 4.0]), Answer::Undecided);
    }
}
