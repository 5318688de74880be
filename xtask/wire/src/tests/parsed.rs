//! Frames that are understood, and frames that are not ours.

use std::time::Duration;

use pcap_parser::{Linktype, PcapCapture};

use super::frames::{datagram, ends, ends_of_ipv6, segment};
use crate::capture::Frame;
use crate::packet::{Ends, Packet, Side};
use crate::pcap;

#[test]
fn says_what_it_is() {
    for ends in [ends(), ends_of_ipv6()] {
        let from = (7, Side::Server);
        let frame = segment(&ends, from, ("P.", 1, 7), b"+PONG\r\n");
        let packet = Packet::parse(&frame, &ends).unwrap();
        assert_eq!(packet.at, Duration::from_micros(7));
        assert_eq!(packet.from, Side::Server);
        assert_eq!(packet.payload, b"+PONG\r\n");
        assert_eq!(packet.consumes(), 7);
        let tcp = packet.tcp.as_ref().unwrap();
        assert!(tcp.psh && tcp.ack && !tcp.syn && !tcp.fin && !tcp.rst);
        assert_eq!(tcp.sequence_number, 1_000_001);

        let syn = segment(&ends, (0, Side::Client), ("S", 0, 0), b"");
        let syn = Packet::parse(&syn, &ends).unwrap();
        assert!(syn.is_syn() && syn.from == Side::Client);
        assert_eq!(syn.consumes(), 1);

        let frame = datagram(&ends, (9, Side::Client), b"PING\r\n");
        let packet = Packet::parse(&frame, &ends).unwrap();
        assert!(packet.tcp.is_none() && !packet.is_fin());
        assert_eq!(packet.payload, b"PING\r\n");
    }
}

#[test]
fn no_frame_that_is_cut_off_is_a_packet() {
    for ends in [ends(), ends_of_ipv6()] {
        for whole in [
            segment(&ends, (0, Side::Client), ("P.", 1, 1), b"PING\r\n"),
            datagram(&ends, (0, Side::Client), b"PING\r\n"),
        ] {
            for length in 0..whole.bytes.len() {
                let bytes = whole.bytes[..length].to_vec();
                let cut = Frame { bytes, ..whole };
                assert!(Packet::parse(&cut, &ends).is_none(), "{length}");
            }
            assert!(Packet::parse(&whole, &ends).is_some());
        }
    }
}

#[test]
fn no_byte_can_make_it_panic() {
    let ends = ends();
    let whole = segment(&ends, (0, Side::Client), ("P.", 1, 1), b"PING\r\n");
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let mut frame = whole.clone();
        for _ in 0..random.usize(1..8) {
            let place = random.usize(..frame.bytes.len());
            frame.bytes[place] = random.u8(..);
        }
        let _ = Packet::parse(&frame, &ends);
    }
}

#[test]
fn other_conversations_are_not_ours() {
    let ours = ends();
    let other_client = "127.0.0.1:40001".parse().unwrap();
    let other_server = "127.0.0.2:7379".parse().unwrap();
    for theirs in [
        Ends { client: other_client, ..ours },
        Ends { server: other_server, ..ours },
        Ends { client: ours.server, server: other_client },
        ends_of_ipv6(),
    ] {
        for from in [Side::Client, Side::Server] {
            let frame = segment(&theirs, (0, from), (".", 1, 1), b"");
            assert!(Packet::parse(&frame, &ours).is_none(), "{theirs:?}");
        }
    }
    // An ARP request, and something that is no protocol at all.
    for kind in [[0x08, 0x06], [0x12, 0x34]] {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&kind);
        let frame = Frame { at: Duration::ZERO, bytes };
        assert!(Packet::parse(&frame, &ours).is_none());
    }
}

#[test]
fn a_file_has_what_was_captured() {
    let ends = ends();
    let frames = [
        segment(&ends, (1_800_000_000_123_456, Side::Client), ("S", 0, 0), b""),
        segment(
            &ends,
            (1_800_000_001_000_001, Side::Server),
            ("P.", 1, 1),
            &[b'x'; 3000],
        ),
    ];
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
