//! Tests the parsing of frames, and files of frames.

use std::net::SocketAddrV4;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_parser::{Linktype, PcapCapture};

use crate::capture::Frame;
use crate::packet::{Ends, Packet, Side};
use crate::pcap;

/// Makes a datagram as on the loopback.
fn frame(from: &str, to: &str) -> Frame {
    let [from, to]: [SocketAddrV4; 2] =
        [from, to].map(|address| address.parse().unwrap());
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([0; 6], [0; 6])
        .ipv4(from.ip().octets(), to.ip().octets(), 64)
        .udp(from.port(), to.port())
        .write(&mut bytes, b"PING\r\n")
        .unwrap();
    Frame { at: Duration::new(1_800_000_000, 123_456_789), bytes }
}

#[test]
fn only_whole_packets_of_the_conversation_are_parsed() {
    let [client, server] = ["127.0.0.1:40000", "127.0.0.1:7379"];
    let ends = Ends {
        client: client.parse().unwrap(),
        server: server.parse().unwrap(),
    };
    for (source, target, from) in [
        (client, server, Some(Side::Client)),
        (server, client, Some(Side::Server)),
        ("127.0.0.1:40001", server, None),
        (client, "127.0.0.2:7379", None),
    ] {
        let packet = Packet::parse(&frame(source, target), &ends);
        assert_eq!(packet.map(|packet| packet.from), from);
    }
    let whole = frame(client, server);
    for length in 0..whole.bytes.len() {
        let bytes = whole.bytes[..length].to_vec();
        let cut = Frame { bytes, ..whole };
        assert!(Packet::parse(&cut, &ends).is_none(), "{length}");
    }
}

#[test]
fn a_file_contains_the_captured_packets() {
    let frames =
        [("127.0.0.1:1", "127.0.0.1:2"), ("127.0.0.1:2", "127.0.0.1:1")]
            .map(|(from, to)| frame(from, to));
    let mut file = Vec::new();
    pcap::write(&frames, &mut file).unwrap();

    let capture = PcapCapture::from_file(&file).unwrap();
    assert!(capture.header.is_nanosecond_precision());
    assert_eq!(capture.header.network, Linktype::ETHERNET);
    assert!(capture.header.snaplen >= 65_536);
    let read = capture.blocks.iter().map(|packet| {
        assert_eq!(packet.origlen, packet.caplen);
        let at = Duration::new(packet.ts_sec.into(), packet.ts_usec);
        (at, packet.data.to_vec())
    });
    let expected: Vec<_> = frames.map(|frame| (frame.at, frame.bytes)).to_vec();
    assert_eq!(read.collect::<Vec<_>>(), expected);
}
