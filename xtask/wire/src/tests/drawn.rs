//! Whole conversations, from frames and calls to the text that is printed.

use std::time::Duration;

use Side::{Client, Server};

use super::frames::{datagram, ends, ends_of_ipv6, segment};
use crate::call::{Call, CallKind, Origin};
use crate::capture::Frame;
use crate::ladder::{self, Notes};
use crate::packet::{Ends, Packet, Side};
use crate::story::{self, Moment, MomentKind};

/// A call of either side's only thread, from one microsecond to another.
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

fn draw(frames: &[Frame], ends: &Ends, calls: &[Call]) -> String {
    draw_in(frames, ends, calls, None)
}

fn draw_in(
    frames: &[Frame],
    ends: &Ends,
    calls: &[Call],
    width: Option<usize>,
) -> String {
    let packets = frames.iter().filter_map(|f| Packet::parse(f, ends));
    let moments = story::in_order(packets.collect(), calls.to_vec());
    let text = ladder::draw(&moments, width, Notes::With);
    for line in text.lines() {
        let columns = console::measure_text_width(line);
        assert!(columns <= width.unwrap_or(80), "{columns}: {line}");
    }
    text
}

/// Begins a conversation as all do: the handshake, the request, and the
/// reply that comes 50 ms later, with an acknowledgement before it.
fn beginning(ends: &Ends) -> (Vec<Frame>, Vec<Call>) {
    let segment = |at, flags, payload| segment(ends, at, flags, payload);
    let frames = vec![
        segment((10, Client), ("S", 0, 0), b"".as_slice()),
        segment((20, Server), ("S.", 0, 1), b""),
        segment((30, Client), (".", 1, 1), b""),
        segment((60_010, Client), ("P.", 1, 1), b"PING\r\n"),
        segment((100_110, Server), (".", 1, 7), b""),
        segment((110_010, Server), ("P.", 1, 7), b"+PONG\r\n"),
        segment((110_020, Client), (".", 7, 8), b""),
    ];
    let calls = vec![
        call(
            Server,
            (0, 300),
            CallKind::Accept,
            ("accept4(listener)", "client 1"),
        ),
        call(Client, (5, 40), CallKind::Connect, ("connect(server)", "0")),
        call(Client, (60_000, 60_020), CallKind::Send(6), ("send()", "6")),
        call(
            Server,
            (320, 60_100),
            CallKind::Receive(6),
            ("recv(client 1)", "6"),
        ),
        call(
            Server,
            (110_000, 110_015),
            CallKind::Send(7),
            ("send(client 1)", "7"),
        ),
        call(Client, (60_030, 110_100), CallKind::Receive(7), ("recv()", "7")),
    ];
    (frames, calls)
}

#[test]
fn a_connection_that_the_client_ends() {
    let ends = ends();
    let (mut frames, mut calls) = beginning(&ends);
    frames.extend([
        segment(&ends, (170_010, Client), ("F.", 7, 8), b""),
        segment(&ends, (210_020, Server), (".", 8, 8), b""),
        segment(&ends, (220_010, Server), ("F.", 8, 8), b""),
        segment(&ends, (220_020, Client), (".", 8, 9), b""),
    ]);
    let shutdown = ("shutdown(SHUT_WR)", "0");
    calls.extend([
        call(Client, (170_000, 170_015), CallKind::Shutdown, shutdown),
        call(
            Server,
            (110_200, 170_100),
            CallKind::Receive(0),
            ("recv(client 1)", "0"),
        ),
        call(
            Server,
            (220_000, 220_030),
            CallKind::Close,
            ("close(client 1)", "0"),
        ),
        call(Client, (170_020, 220_040), CallKind::Receive(0), ("recv()", "0")),
        call(Client, (220_050, 220_060), CallKind::Close, ("close()", "0")),
    ]);
    assert_eq!("\n".to_owned() + &draw(&frames, &ends, &calls), CLIENT_ENDS);
}

const CLIENT_ENDS: &str = r#"
       ms client                                                          server
   -0.005 │                                                accept4(listener) … │
    0.000 │ connect(server) …                                                  │
    0.005 ├─────────────────────────── SYN, seq 0 ────────────────────────────▶│
          │   connect() sends the first packet and waits.                      │
    0.015 │◀────────────────────── SYN ACK, seq 0, ack 1 ──────────────────────┤
          │   The server's kernel answers: that a socket listens is enough,    │
          │   no program is asked.                                             │
    0.025 ├──────────────────────── ACK, seq 1, ack 1 ────────────────────────▶│
          │   The handshake is complete. The connection waits in the           │
          │   listener's queue; the server's program does not know of it       │
          │   yet.                                                             │
    0.035 │ … connect = 0                                                      │
    0.295 │                                               … accept4 = client 1 │
          │   Only now does the server's program know of the client, 260 µs    │
          │   after connect() has returned.                                    │
    0.315 │                                                   recv(client 1) … │
          │                                                                    │
   59.995 │ send() …                                                           │
   60.005 ├──────────── PSH ACK, seq 1, ack 1, 6 bytes "PING\r\n" ────────────▶│
          │   The bytes wait in the server's receive buffer until a call       │
          │   takes them.                                                      │
   60.015 │ … send = 6                                                         │
   60.025 │ recv() …                                                           │
   60.095 │                                                         … recv = 6 │
          │                                                                    │
  100.105 │◀──────────────────────── ACK, seq 1, ack 7 ────────────────────────┤
          │   The server's kernel acknowledges the bytes, after 40.1 ms in     │
          │   which nothing came that could have taken the acknowledgement     │
          │   along; whether its program has taken them, this does not say.    │
          │                                                                    │
  109.995 │                                                   send(client 1) … │
  110.005 │◀─────────── PSH ACK, seq 1, ack 7, 7 bytes "+PONG\r\n" ────────────┤
          │   The reply.                                                       │
  110.010 │                                                         … send = 7 │
  110.015 ├──────────────────────── ACK, seq 7, ack 8 ────────────────────────▶│
  110.095 │ … recv = 7                                                         │
  110.195 │                                                   recv(client 1) … │
          │                                                                    │
  169.995 │ shutdown(SHUT_WR) …                                                │
  170.005 ├────────────────────── FIN ACK, seq 7, ack 8 ──────────────────────▶│
          │   The first FIN: the client will send no more. It can still        │
          │   receive.                                                         │
  170.010 │ … shutdown = 0                                                     │
  170.015 │ recv() …                                                           │
  170.095 │                                                         … recv = 0 │
          │   0 is the end of file: the client's FIN has been reached.         │
          │                                                                    │
  210.015 │◀──────────────────────── ACK, seq 8, ack 8 ────────────────────────┤
          │   The server's kernel acknowledges the FIN, after 40.0 ms in       │
          │   which nothing came that could have taken the acknowledgement     │
          │   along. The connection is half closed until the server's          │
          │   program ends its side too.                                       │
          │                                                                    │
  219.995 │                                                  close(client 1) … │
  220.005 │◀────────────────────── FIN ACK, seq 8, ack 8 ──────────────────────┤
          │   The server's FIN ends the other direction.                       │
  220.015 ├──────────────────────── ACK, seq 8, ack 9 ────────────────────────▶│
          │   The last packet. Should it be lost, the FIN comes again, and     │
          │   somebody must be left to answer: that is what TIME_WAIT is       │
          │   for.                                                             │
  220.025 │                                                        … close = 0 │
  220.035 │ … recv = 0                                                         │
          │   0 is the end of file: the server's FIN has been reached.         │
  220.045 │ close() = 0                                                        │
"#;

#[test]
fn a_reset() {
    let ends = ends();
    let (mut frames, mut calls) = beginning(&ends);
    frames.push(segment(&ends, (170_010, Client), ("R.", 7, 8), b""));
    calls.push(call(
        Client,
        (170_000, 170_020),
        CallKind::Close,
        ("close()", "0"),
    ));
    let text = "\n".to_owned() + &draw(&frames, &ends, &calls);
    assert!(text.ends_with(RESET), "{text}");
}

const RESET: &str = r#"
  169.995 │ close() …                                                          │
  170.005 ├────────────────────── RST ACK, seq 7, ack 8 ──────────────────────▶│
          │   A reset: the connection is given up at once. Nothing answers     │
          │   it, and neither side keeps anything of the connection.           │
  170.015 │ … close = 0                                                        │
"#;

#[test]
fn datagrams() {
    let ends = ends();
    let frames = [
        datagram(&ends, (10, Client), b"PING\r\n"),
        datagram(&ends, (110, Server), b"+PONG\r\n"),
    ];
    let calls = [
        call(Client, (0, 20), CallKind::Send(6), ("sendto(server)", "6")),
        call(Client, (30, 130), CallKind::Receive(7), ("recvfrom()", "7")),
    ];
    assert_eq!("\n".to_owned() + &draw(&frames, &ends, &calls), DATAGRAMS);
}

const DATAGRAMS: &str = r#"
       ms client                                                          server
    0.000 │ sendto(server) …                                                   │
    0.010 ├────────────────── datagram, 6 bytes "PING\r\n" ───────────────────▶│
          │   The first packet is the request: no connection is made. It       │
          │   waits in the socket's buffer until the server takes it, whole.   │
    0.020 │ … sendto = 6                                                       │
    0.030 │ recvfrom() …                                                       │
    0.110 │◀────────────────── datagram, 7 bytes "+PONG\r\n" ──────────────────┤
          │   The reply. Nothing acknowledges it; if it were lost, only the    │
          │   client's own patience would tell.                                │
    0.130 │ … recvfrom = 7                                                     │
"#;

#[test]
fn ipv6_looks_the_same() {
    let [old, new] = [ends(), ends_of_ipv6()].map(|ends| {
        let (frames, calls) = beginning(&ends);
        draw(&frames, &ends, &calls)
    });
    assert_eq!(old, new);
    assert!(new.contains("PSH ACK, seq 1, ack 7, 7 bytes"), "{new}");
}

#[test]
fn what_is_not_understood_leaves_the_ladder_as_it_is() {
    let ends = ends();
    let (mut frames, calls) = beginning(&ends);
    let expected = draw(&frames, &ends, &calls);
    let mut cut = frames[3].clone();
    cut.bytes.truncate(40);
    frames.insert(2, cut);
    frames.insert(4, segment(&ends_of_ipv6(), (31, Client), ("R", 0, 0), b""));
    frames.push(Frame { at: Duration::ZERO, bytes: Vec::new() });
    assert_eq!(draw(&frames, &ends, &calls), expected);
}

#[test]
fn a_request_that_is_sent_again_is_named() {
    let ends = ends();
    let (mut frames, calls) = beginning(&ends);
    let again = segment(&ends, (90_000, Client), ("P.", 1, 1), b"PING\r\n");
    frames.insert(4, again);
    let text = draw(&frames, &ends, &calls);
    assert_eq!(text.matches("Sent again").count(), 1, "{text}");
}

#[test]
fn notes_stand_beside_it_where_there_is_room() {
    let ends = ends();
    let (frames, calls) = beginning(&ends);
    let narrow = draw_in(&frames, &ends, &calls, Some(100));
    assert_eq!(narrow, draw(&frames, &ends, &calls));
    let wide = draw_in(&frames, &ends, &calls, Some(160));
    assert!(wide.lines().count() < narrow.lines().count(), "{wide}");
    let note = "│  connect() sends the first packet and waits.";
    assert!(wide.contains(note), "{wide}");
}

/// The entries of a ladder, in its order, in short.
fn order(frames: &[Frame], ends: &Ends, calls: &[Call]) -> Vec<String> {
    let packets = frames.iter().filter_map(|f| Packet::parse(f, ends));
    let moments = story::in_order(packets.collect(), calls.to_vec());
    let name = |moment: &Moment| match &moment.what {
        MomentKind::Packet(packet) => format!("{:?}", packet.from),
        MomentKind::Begins(call) => format!("{} ...", call.text),
        MomentKind::Returns(call) => format!("... {}", call.text),
        MomentKind::Passes(call) => call.text.clone(),
    };
    moments.iter().map(name).collect()
}

#[test]
fn a_cause_comes_first_whatever_the_clocks_say() {
    let ends = ends();
    let (frames, calls) = beginning(&ends);
    let expected = [
        "accept4(listener) ...",
        "connect(server) ...",
        "Client",
        "Server",
        "Client",
        "... connect(server)",
        "... accept4(listener)",
        "recv(client 1) ...",
        "send() ...",
        "Client",
        "... send()",
        "recv() ...",
        "... recv(client 1)",
        "Server",
        "send(client 1) ...",
        "Server",
        "... send(client 1)",
        "Client",
        "... recv()",
    ];
    assert_eq!(order(&frames, &ends, &calls), expected);
    // As if the server's clock were late by some microseconds, or early.
    for (call_at, packet_at) in [(15, 30), (30, 15)] {
        let frames = [
            segment(&ends, (0, Client), ("S", 0, 0), b""),
            segment(&ends, (1, Server), ("S.", 0, 1), b""),
            segment(&ends, (2, Client), (".", 1, 1), b""),
            segment(&ends, (10, Client), ("P.", 1, 1), b"PING\r\n"),
            segment(&ends, (packet_at, Server), ("P.", 1, 7), b"+PONG\r\n"),
        ];
        let calls = [
            call(Server, (3, 8), CallKind::Receive(6), ("recv", "6")),
            call(
                Server,
                (call_at, call_at + 4),
                CallKind::Send(7),
                ("send", "7"),
            ),
            call(Client, (12, 14), CallKind::Receive(7), ("read", "7")),
        ];
        let order = order(&frames, &ends, &calls);
        let place = |name: &str| {
            let place = order.iter().position(|line| line == name);
            place.unwrap_or_else(|| panic!("no {name} in {order:?}"))
        };
        let [request, reply] = [
            order.iter().rposition(|line| line == "Client").unwrap(),
            order.iter().rposition(|line| line == "Server").unwrap(),
        ];
        assert!(place("... recv") > request, "{order:?}");
        let send = order.iter().position(|line| line.starts_with("send"));
        assert!(send.unwrap() < reply, "{order:?}");
        assert!(send.unwrap() > place("... recv"), "{order:?}");
        assert!(place("... read") > reply, "{order:?}");
    }
}

#[test]
fn what_no_clock_explains_stays_as_it_was_seen() {
    let ends = ends();
    let frames = [segment(&ends, (10, Client), ("P.", 1, 1), b"PING\r\n")];
    let late = call(Client, (5_000, 6_000), CallKind::Send(6), ("send", "6"));
    assert_eq!(order(&frames, &ends, &[late]), ["Client", "send"]);
}
