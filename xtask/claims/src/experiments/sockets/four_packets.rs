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
    criterion: "One side closes, and the other closes either at once when it \
                receives EOF, or after its kernel has acknowledged the FIN. \
                True if both orders require four packets in at least three \
                quarters of the connections, false if both require another \
                number in three quarters. It depends if one of them requires \
                four and the other another number.",
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

/// When the second side closes.
#[derive(Clone, Copy, Debug)]
enum Second {
    /// When it receives EOF.
    AtOnce,
    /// After its kernel has acknowledged the first FIN.
    Later,
}

/// The measurements of one connection's end.
#[derive(Clone, Copy, Debug)]
struct Ending {
    packets: f64,
    /// The time until the second side closed, in ms.
    second_closed_after: f64,
}

fn run(effort: Effort) -> Result<Finding> {
    let (mut at_once, mut later) = (Vec::new(), Vec::new());
    for round in 0..effort.pick(40, 4) {
        // The client closes first in one round, the server in the next.
        for (second, endings) in
            [(Second::AtOnce, &mut at_once), (Second::Later, &mut later)]
        {
            let (client, server) = used_connection()?;
            endings.push(match round % 2 {
                0 => end(&client, &server, second)?,
                _ => end(&server, &client, second)?,
            });
        }
    }
    let sample = |endings: &[Ending], value: fn(&Ending) -> f64| {
        Sample::new(endings.iter().map(value).collect())
    };
    let [few, many] = [&at_once, &later].map(|it| sample(it, |e| e.packets));
    let delay = sample(&later, |it| it.second_closed_after);
    Ok(Finding::new(
        judge(&few, &many),
        [
            Figure::new("packets if the second closes at EOF", "", few),
            Figure::new("packets if the second closes later", "", many),
            Figure::new("delay of the ACK that it waits for", "ms", delay),
        ],
    ))
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

/// Ends both directions of a connection. shutdown sends the same FIN as close,
/// but the counters remain readable.
fn end(first: &TcpStream, second: &TcpStream, when: Second) -> Result<Ending> {
    let before = [sent(first)?, sent(second)?];
    first.shutdown(Shutdown::Write).context("shutdown")?;
    let start = Instant::now();
    expect_eof(second)?;
    if let Second::Later = when {
        tcp::wait_until("the first FIN is acknowledged", || {
            Ok(sent(second)? > before[1])
        })?;
    }
    let second_closed_after = start.elapsed().as_secs_f64() * 1e3;
    second.shutdown(Shutdown::Write).context("shutdown")?;
    expect_eof(first)?;
    tcp::wait_until("the second FIN is acknowledged", || {
        Ok(tcp::info(second)?.tcpi_state == TCP_CLOSE)
    })?;
    let packets = sent(first)? + sent(second)? - before[0] - before[1];
    Ok(Ending { packets: packets.into(), second_closed_after })
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
    match [at_once, later].map(is_four) {
        [Answer::Undecided, _] | [_, Answer::Undecided] => Answer::Undecided,
        [one, other] if one == other => one,
        _ => Answer::Depends,
    }
}

/// Returns whether three quarters of the connections required four packets, or
/// three quarters required another number.
fn is_four(packets: &Sample) -> Answer {
    let packets = packets.values();
    let four = packets.iter().filter(|count| **count == 4.0).count();
    if 4 * four >= 3 * packets.len() {
        Answer::True
    } else if 4 * four <= packets.len() {
        Answer::False
    } else {
        Answer::Undecided
    }
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
