//! Tests whole conversations, from packets and calls to the printed text.

use std::time::Duration;

use CallKind::{Accept, Close, Connect, Receive, Send, Shutdown};
use Side::{Client, Server};

use super::{datagram, order, segment};
use crate::call::{Call, CallKind, Origin};
use crate::ladder::{self, Notes};
use crate::moments;
use crate::packet::{Packet, Side};

/// Makes a call of a side's only thread, with its times in microseconds.
fn call(
    side: Side,
    (begun, ended): (u64, u64),
    kind: CallKind,
    (text, result): (&str, &str),
) -> Call {
    Call {
        side,
        origin: match side {
            Client => Origin::Client,
            Server => Origin::Thread(1),
        },
        kind,
        name: text.split('(').next().unwrap().to_owned(),
        text: text.to_owned(),
        result: result.to_owned(),
        begun: Duration::from_micros(begun),
        ended: Some(Duration::from_micros(ended)),
    }
}

fn draw(packets: Vec<Packet>, calls: Vec<Call>) -> String {
    let moments = moments::in_order(packets, calls);
    let text = ladder::draw(&moments, None, Notes::With);
    for line in text.lines() {
        let columns = console::measure_text_width(line);
        assert!(columns <= 80, "{columns}: {line}");
    }
    text
}

/// Makes the common beginning of conversations: the handshake, the request, and
/// the reply 50 ms later, with an acknowledgement before it.
fn beginning() -> (Vec<Packet>, Vec<Call>) {
    let packets = vec![
        segment((10, Client), ("S", 0, 0), b"".as_slice()),
        segment((20, Server), ("S.", 0, 1), b""),
        segment((30, Client), (".", 1, 1), b""),
        segment((60_010, Client), ("P.", 1, 1), b"PING\r\n"),
        segment((100_110, Server), (".", 1, 7), b""),
        segment((110_010, Server), ("P.", 1, 7), b"+PONG\r\n"),
        segment((110_020, Client), (".", 7, 8), b""),
    ];
    let calls = vec![
        call(Server, (0, 300), Accept, ("accept4(listener)", "client 1")),
        call(Client, (5, 40), Connect, ("connect(server)", "0")),
        call(Client, (60_000, 60_020), Send(6), ("send()", "6")),
        call(Server, (320, 60_100), Receive(6), ("recv(client 1)", "6")),
        call(Server, (110_000, 110_015), Send(7), ("send(client 1)", "7")),
        call(Client, (60_030, 110_100), Receive(7), ("recv()", "7")),
    ];
    (packets, calls)
}

#[test]
fn a_connection_that_the_client_ends() {
    let (mut packets, mut calls) = beginning();
    packets.extend([
        segment((170_010, Client), ("F.", 7, 8), b""),
        segment((210_020, Server), (".", 8, 8), b""),
        segment((220_010, Server), ("F.", 8, 8), b""),
        segment((220_020, Client), (".", 8, 9), b""),
    ]);
    let shutdown = ("shutdown(SHUT_WR)", "0");
    calls.extend([
        call(Client, (170_000, 170_015), Shutdown, shutdown),
        call(Server, (110_200, 170_100), Receive(0), ("recv(client 1)", "0")),
        call(Server, (220_000, 220_030), Close, ("close(client 1)", "0")),
        call(Client, (170_020, 220_040), Receive(0), ("recv()", "0")),
        call(Client, (220_050, 220_060), Close, ("close()", "0")),
    ]);
    assert_eq!(draw(packets, calls), include_str!("client_ends.txt"));
}

#[test]
fn a_reset() {
    let (mut packets, mut calls) = beginning();
    packets.push(segment((170_010, Client), ("R.", 7, 8), b""));
    calls.push(call(Client, (170_000, 170_020), Close, ("close()", "0")));
    let text = draw(packets, calls);
    assert!(text.ends_with(include_str!("reset.txt")), "{text}");
}

#[test]
fn datagrams() {
    let packets = vec![
        datagram((10, Client), b"PING\r\n"),
        datagram((110, Server), b"+PONG\r\n"),
    ];
    let calls = vec![
        call(Client, (0, 20), Send(6), ("sendto(server)", "6")),
        call(Client, (30, 130), Receive(7), ("recvfrom()", "7")),
    ];
    assert_eq!(draw(packets, calls), include_str!("datagrams.txt"));
}

#[test]
fn a_retransmission_is_named() {
    let (mut packets, calls) = beginning();
    let again = segment((90_000, Client), ("P.", 1, 1), b"PING\r\n");
    packets.insert(4, again);
    let text = draw(packets, calls);
    assert_eq!(text.matches("Retransmission").count(), 1, "{text}");
}

#[test]
fn causes_come_first_if_clocks_disagree_slightly() {
    let request = segment((10, Client), ("P.", 1, 1), b"PING\r\n");
    // The server's clock is some microseconds late or early.
    for (call_at, packet_at) in [(15, 30), (30, 15)] {
        let reply = segment((packet_at, Server), ("P.", 1, 7), b"+PONG\r\n");
        let calls = [
            call(Server, (3, 8), Receive(6), ("recv", "6")),
            call(Server, (call_at, call_at + 20), Send(7), ("send", "7")),
            call(Client, (12, 14), Receive(7), ("read", "7")),
        ];
        let order = order(&[request.clone(), reply], &calls);
        let server = order.iter().filter(|entry| !entry.contains("read"));
        let expected = [
            "recv ...", "Client", "... recv", "send ...", "Server", "... send",
        ];
        assert_eq!(server.collect::<Vec<_>>(), expected);
        assert!(order[4..].contains(&"... read".to_owned()), "{order:?}");
    }
    let late = call(Client, (5_000, 6_000), Send(6), ("send", "6"));
    assert_eq!(order(&[request], &[late]), ["Client", "send"]);
}
