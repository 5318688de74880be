//! A raw socket receives a copy of each IP packet of one protocol. Stream and
//! datagram sockets receive none of another protocol than their own.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::process::wait_readable;
use socket2::{Domain, Protocol, Socket, Type};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "raw-socket",
    claim: "A raw socket receives packets of a protocol that stream and \
            datagram sockets can't read.",
    section: "Introduction to sockets, raw sockets",
    criterion: "A raw socket for ICMP sends an echo request to 127.0.0.1. True \
                if it receives the reply, and a TCP and a UDP socket of this \
                address receive nothing. False if it receives no reply within \
                10 s, or one of the others receives something.",
    if_false: History::NeverTrue,
    sources: &["raw(7)", "icmp(7)", "RFC 792"],
    explanation: "The kernel passes a copy of an arriving packet to each raw \
                  socket of its protocol, headers included, and handles the \
                  packet as well: the kernel answers the echo request here. \
                  UDP and TCP sockets receive data of their own protocol only. \
                  A raw socket requires CAP_NET_RAW. Linux also has datagram \
                  sockets for ICMP echo alone, for the groups in \
                  net.ipv4.ping_group_range.",
    run,
    file: file!(),
};

/// ICMP types and the length of a header (RFC 792).
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ICMP_HEADER: usize = 8;

fn run(effort: Effort) -> Result<Finding> {
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let mut raw = raw.context("a raw socket, which requires CAP_NET_RAW")?;
    raw.set_read_timeout(Some(net::PATIENCE))?;
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let connections = net::listener()?;
    let rounds = effort.pick(20, 3);
    let (mut sent, mut requests, mut replies) = (0, 0, 0);
    // A missing reply decides, and the wait for it is long.
    while sent < rounds && replies == sent {
        sent += 1;
        let request = echo_request(sent as u16);
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        raw.send_to(&request, &to.into()).context("sending ICMP")?;
        // The socket receives copies of both: the request arrives here too.
        for kind in receive_echo(&mut raw, &request)? {
            requests += usize::from(kind == ECHO_REQUEST);
            replies += usize::from(kind == ECHO_REPLY);
        }
    }
    // The replies have come, so the kernel has processed all packets.
    let others = usize::from(wait_readable(&datagrams, Instant::now())?)
        + usize::from(wait_readable(&connections, Instant::now())?);
    expect_datagram(&datagrams)?;
    Ok(Finding::new(
        judge(replies, sent, others),
        [
            Figure::new("replies that the raw socket received", "", replies),
            Figure::new("its own requests that it received", "", requests),
            Figure::new("requests that it sent", "", sent),
            Figure::new("TCP and UDP sockets that received", "", others),
        ],
    ))
}

/// Makes an echo request with the process ID as its identifier.
fn echo_request(number: u16) -> [u8; ICMP_HEADER] {
    let mut request = [0; ICMP_HEADER];
    request[0] = ECHO_REQUEST;
    let identifier = std::process::id() as u16;
    request[4..6].copy_from_slice(&identifier.to_be_bytes());
    request[6..8].copy_from_slice(&number.to_be_bytes());
    let checksum = checksum(&request);
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    request
}

/// Returns the complement of the sum in ones' complement (RFC 1071).
fn checksum(header: &[u8; ICMP_HEADER]) -> u16 {
    let words = header.chunks_exact(2);
    let words = words.map(|it| u32::from(it[0]) << 8 | u32::from(it[1]));
    let sum = words.sum::<u32>();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Receives packets until the reply to this request. Returns the ICMP types of
/// those that belong to it.
fn receive_echo(
    raw: &mut Socket,
    request: &[u8; ICMP_HEADER],
) -> Result<Vec<u8>> {
    let mut kinds = Vec::new();
    let mut packet = [0; 1500];
    let deadline = Instant::now() + net::PATIENCE;
    while !kinds.contains(&ECHO_REPLY) && Instant::now() < deadline {
        let size = match raw.read(&mut packet) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            other => other.context("receiving ICMP")?,
        };
        // The first byte has the length of the IP header in words.
        let header = usize::from(packet[0] & 0xf) * 4;
        let Some(icmp) = packet[..size].get(header..) else { continue };
        // Other programs' packets come here too.
        if icmp.get(4..ICMP_HEADER) == Some(&request[4..]) {
            kinds.push(icmp[0]);
        }
    }
    Ok(kinds)
}

/// Checks that the UDP socket receives what is sent to it.
fn expect_datagram(socket: &UdpSocket) -> Result<()> {
    socket.send_to(b"x", socket.local_addr()?).context("send")?;
    let deadline = Instant::now() + net::PATIENCE;
    ensure!(wait_readable(socket, deadline)?, "UDP received nothing");
    Ok(())
}

fn judge(replies: usize, sent: usize, others: usize) -> Answer {
    Answer::from_bool(replies == sent && others == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_another_socket_receives_makes_it_false() {
        assert_eq!(judge(3, 3, 0), Answer::True);
        assert_eq!(judge(3, 3, 1), Answer::False);
        assert_eq!(judge(0, 3, 0), Answer::False);
    }
}
