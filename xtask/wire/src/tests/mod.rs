//! Tests the way from packets to ladders, and from a packet socket to packets.

use std::time::Duration;

use etherparse::TcpHeader;

use crate::call::Call;
use crate::moments::{self, Moment, MomentKind};
use crate::packet::{Packet, Side};

mod drawn;
mod live;
mod parsed;
mod read;

/// The initial sequence number of each side. The client's numbers wrap around
/// within the conversation.
const CLIENT: u32 = u32::MAX - 2;
const SERVER: u32 = 1_000_000;

/// Makes a segment, `at` microseconds after the epoch. Flags are letters as in
/// tcpdump, with `.` for ACK. The sequence and acknowledgement numbers are
/// relative to the initial ones.
fn segment(
    (at, from): (u64, Side),
    (flags, number, acknowledged): (&str, u32, u32),
    payload: &[u8],
) -> Packet {
    let (own, other) = match from {
        Side::Client => (CLIENT, SERVER),
        Side::Server => (SERVER, CLIENT),
    };
    let mut tcp = TcpHeader::new(0, 0, own.wrapping_add(number), 65_535);
    tcp.acknowledgment_number = other.wrapping_add(acknowledged);
    tcp.syn = flags.contains('S');
    tcp.fin = flags.contains('F');
    tcp.rst = flags.contains('R');
    tcp.psh = flags.contains('P');
    tcp.ack = flags.contains('.');
    Packet { tcp: Some(tcp), ..datagram((at, from), payload) }
}

fn datagram((at, from): (u64, Side), payload: &[u8]) -> Packet {
    let at = Duration::from_micros(at);
    Packet { at, from, tcp: None, payload: payload.to_vec() }
}

/// Returns the entries of a ladder in order, abbreviated.
fn order(packets: &[Packet], calls: &[Call]) -> Vec<String> {
    let moments = moments::in_order(packets.to_vec(), calls.to_vec());
    let name = |moment: &Moment| match &moment.what {
        MomentKind::Packet(packet) => format!("{:?}", packet.from),
        MomentKind::Begins(call) => format!("{} ...", call.text),
        MomentKind::Returns(call) => format!("... {}", call.text),
        MomentKind::Passes(call) => call.text.clone(),
    };
    moments.iter().map(name).collect()
}
