//! Frames as the loopback has them, made by etherparse.

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader};

use crate::capture::Frame;
use crate::packet::{Ends, Side};

/// The first number of each side's stream. The client's go round within the
/// conversation.
const CLIENT: u32 = u32::MAX - 2;
const SERVER: u32 = 1_000_000;

pub fn ends() -> Ends {
    Ends {
        client: "127.0.0.1:40000".parse().unwrap(),
        server: "127.0.0.1:7379".parse().unwrap(),
    }
}

pub fn ends_of_ipv6() -> Ends {
    Ends {
        client: "[::1]:40000".parse().unwrap(),
        server: "[::1]:7379".parse().unwrap(),
    }
}

/// A segment, so many microseconds after the epoch. Flags are letters as in
/// tcpdump, with `.` for an acknowledgement; the number that the segment
/// begins with and the one that it acknowledges count from the first.
pub fn segment(
    ends: &Ends,
    (at, from): (u64, Side),
    (flags, number, acknowledged): (&str, u32, u32),
    payload: &[u8],
) -> Frame {
    let (own, other) = match from {
        Side::Client => (CLIENT, SERVER),
        Side::Server => (SERVER, CLIENT),
    };
    let (source, destination) = addresses(ends, from);
    let number = own.wrapping_add(number);
    let mut header =
        TcpHeader::new(source.port(), destination.port(), number, 65_535);
    header.syn = flags.contains('S');
    header.fin = flags.contains('F');
    header.rst = flags.contains('R');
    header.psh = flags.contains('P');
    header.ack = flags.contains('.');
    if header.ack {
        header.acknowledgment_number = other.wrapping_add(acknowledged);
    }
    let mut bytes = Vec::new();
    ip(source, destination)
        .tcp_header(header)
        .write(&mut bytes, payload)
        .unwrap();
    Frame { at: Duration::from_micros(at), bytes }
}

pub fn datagram(ends: &Ends, (at, from): (u64, Side), payload: &[u8]) -> Frame {
    let (source, destination) = addresses(ends, from);
    let mut bytes = Vec::new();
    ip(source, destination)
        .udp(source.port(), destination.port())
        .write(&mut bytes, payload)
        .unwrap();
    Frame { at: Duration::from_micros(at), bytes }
}

fn addresses(ends: &Ends, from: Side) -> (SocketAddr, SocketAddr) {
    match from {
        Side::Client => (ends.client, ends.server),
        Side::Server => (ends.server, ends.client),
    }
}

fn ip(from: SocketAddr, to: SocketAddr) -> PacketBuilderStep<IpHeaders> {
    let ethernet = PacketBuilder::ethernet2([0; 6], [0; 6]);
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet.ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            ethernet.ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => panic!("two families: {from} and {to}"),
    }
}
