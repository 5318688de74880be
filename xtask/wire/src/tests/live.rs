//! Conversations on this machine's loopback, as a packet socket sees them.

use std::io::Read as _;
use std::io::Write as _;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream,
    UdpSocket,
};
use std::path::Path;
use std::thread;
use std::time::Duration;

use Side::{Client, Server};
use anyhow::anyhow;
use lab::model::Transport;
use lab::test::skip;
use lab::{Unsupported, process};
use nix::unistd::Pid;
use trace::host::{Host, Tracing};

use crate::afterwards::{self, Half};
use crate::call::{Call, CallKind};
use crate::capture::Capture;
use crate::client::{self, End};
use crate::packet::{Packet, Side};
use crate::story::{self, MomentKind};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A conversation, as it was seen.
struct Conversation {
    packets: Vec<Packet>,
    calls: Vec<Call>,
    halves: Vec<Half>,
}

fn open() -> Option<Capture> {
    match Capture::open() {
        Ok(capture) => Some(capture),
        Err(error) if error.is::<Unsupported>() => {
            skip("no CAP_NET_RAW");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A server for one client, which does what the models do.
fn serve(listener: TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut input = [0; 512];
    loop {
        match stream.read(&mut input) {
            Ok(0) => return,
            Ok(length) if &input[..length] == b"QUIT\r\n" => {
                stream.write_all(b"+OK\r\n").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            }
            Ok(_) => stream.write_all(b"+PONG\r\n").unwrap(),
            Err(_) => return,
        }
    }
}

/// Talks at another port, while others talk.
fn chat() {
    let listener = TcpListener::bind((V4, 0)).unwrap();
    let mut stream =
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    stream.write_all(b"not ours").unwrap();
    other.read_exact(&mut [0; 8]).unwrap();
}

fn converse(address: IpAddr, end: End) -> Option<Conversation> {
    let capture = open()?;
    let listener = match TcpListener::bind((address, 0)) {
        Ok(listener) => listener,
        Err(error) => {
            skip(format!("no socket at {address}: {error}"));
            return None;
        }
    };
    let server = listener.local_addr().unwrap();
    capture.watch(Transport::Tcp, server.port()).unwrap();
    let serving = thread::spawn(|| serve(listener));
    chat();
    let (ends, calls) = client::converse(server, end).unwrap();
    chat();
    serving.join().unwrap();
    let frames = capture.collect().unwrap();
    let packets: Vec<_> =
        frames.iter().filter_map(|f| Packet::parse(f, &ends)).collect();
    assert_eq!(packets.len(), frames.len(), "the filter lets others in");
    assert_eq!(capture.dropped().unwrap(), 0);
    let halves = afterwards::look(&ends).unwrap();
    Some(Conversation { packets, calls, halves })
}

/// Lists who sends what, as it must be. A segment that only acknowledges may be
/// there or not, TCP leaves that open, but for the handshake's.
fn said(packets: &[Packet]) -> Vec<String> {
    let mut said = Vec::new();
    for (place, packet) in packets.iter().enumerate() {
        let tcp = packet.tcp.as_ref().unwrap();
        let only_acknowledges = packet.consumes() == 0 && !tcp.rst;
        if only_acknowledges && place != 2 {
            continue;
        }
        let flags = [(tcp.syn, "SYN"), (tcp.fin, "FIN"), (tcp.rst, "RST")];
        let mut text = format!("{:?}", packet.from);
        for (_, flag) in flags.iter().filter(|(is_set, _)| *is_set) {
            text += &format!(" {flag}");
        }
        if tcp.ack && place < 3 {
            text += " ACK";
        }
        if !packet.payload.is_empty() {
            text += &format!(" {}", packet.payload.escape_ascii());
        }
        said.push(text);
    }
    said
}

/// Every number follows the one before, and the other side has acknowledged
/// all.
fn check_numbers(packets: &[Packet]) {
    for side in [Client, Server] {
        let mut next: Option<u32> = None;
        let mine = packets.iter().filter(|packet| packet.from == side);
        for packet in mine {
            let number = packet.tcp.as_ref().unwrap().sequence_number;
            assert_eq!(number, next.unwrap_or(number), "{packet:?}");
            next = Some(number.wrapping_add(packet.consumes()));
        }
        let theirs = packets.iter().filter(|packet| packet.from != side);
        let last = theirs.filter_map(|packet| packet.tcp.as_ref()).next_back();
        assert_eq!(last.map(|tcp| tcp.acknowledgment_number), next);
    }
}

/// That each call stands where its packet puts it.
fn check_order(seen: &Conversation) {
    let moments = story::in_order(seen.packets.clone(), seen.calls.clone());
    let place = |what: &dyn Fn(&MomentKind) -> bool| {
        let place = moments.iter().position(|moment| what(&moment.what));
        place.unwrap_or_else(|| panic!("not in {moments:?}"))
    };
    // A call in which nothing happens has one place for both.
    let begins = |kind: CallKind| {
        place(&|what| {
            matches!(what, MomentKind::Begins(call) | MomentKind::Passes(call)
                if call.kind == kind)
        })
    };
    let returns = |kind: CallKind| {
        place(&|what| {
            matches!(what, MomentKind::Returns(call) | MomentKind::Passes(call)
                if call.kind == kind)
        })
    };
    let packet = |from: Side, is: fn(&Packet) -> bool| {
        place(&|what| match what {
            MomentKind::Packet(packet) => packet.from == from && is(packet),
            _ => false,
        })
    };
    let [syn, answer] = [Client, Server].map(|s| packet(s, Packet::is_syn));
    assert!(begins(CallKind::Connect) < syn && syn < answer);
    assert!(answer < returns(CallKind::Connect));
    let carries = |packet: &Packet| !packet.payload.is_empty();
    assert!(begins(CallKind::Send(6)) < packet(Client, carries));
    assert!(packet(Server, carries) < returns(CallKind::Receive(7)));
}

const HANDSHAKE_AND_PING: [&str; 5] = [
    "Client SYN",
    "Server SYN ACK",
    "Client ACK",
    "Client PING\\r\\n",
    "Server +PONG\\r\\n",
];

#[test]
fn a_client_that_ends_first() {
    for address in [V4, V6] {
        let Some(seen) = converse(address, End::Client) else { return };
        let expected =
            [&HANDSHAKE_AND_PING[..], &["Client FIN", "Server FIN"]].concat();
        assert_eq!(said(&seen.packets), expected);
        check_numbers(&seen.packets);
        check_order(&seen);
        let last = seen.packets.last().unwrap();
        assert!(last.from == Client && last.consumes() == 0, "{last:?}");
        let [half] = &seen.halves[..] else { panic!("{:?}", seen.halves) };
        assert!(half.is_waiting() && half.side == Client, "{half:?}");
        let left = half.left.unwrap();
        assert!(left > Duration::from_secs(50), "{left:?}");
        assert!(left <= Duration::from_secs(60), "{left:?}");
    }
}

#[test]
fn a_server_that_ends_first() {
    let Some(seen) = converse(V4, End::Server) else { return };
    let rest =
        ["Client QUIT\\r\\n", "Server +OK\\r\\n", "Server FIN", "Client FIN"];
    let expected = [&HANDSHAKE_AND_PING[..], &rest].concat();
    assert_eq!(said(&seen.packets), expected);
    check_numbers(&seen.packets);
    check_order(&seen);
    // The client ends its side later than an acknowledgement is put off.
    let last_fin = seen.packets.iter().rposition(Packet::is_fin).unwrap();
    let between = &seen.packets[last_fin - 1];
    assert!(between.from == Client && between.consumes() == 0, "{between:?}");
    let [half] = &seen.halves[..] else { panic!("{:?}", seen.halves) };
    assert!(half.is_waiting() && half.side == Server, "{half:?}");
}

#[test]
fn a_reset_leaves_nothing() {
    let Some(seen) = converse(V4, End::Reset) else { return };
    let expected = [&HANDSHAKE_AND_PING[..], &["Client RST"]].concat();
    assert_eq!(said(&seen.packets), expected);
    check_order(&seen);
    assert_eq!(seen.halves, []);
}

#[test]
fn a_datagram_and_its_reply() {
    for address in [V4, V6] {
        let Some(capture) = open() else { return };
        let socket = match UdpSocket::bind((address, 0)) {
            Ok(socket) => socket,
            Err(error) => return skip(format!("{address}: {error}")),
        };
        let server = socket.local_addr().unwrap();
        capture.watch(Transport::Udp, server.port()).unwrap();
        let serving = thread::spawn(move || {
            let (_, client) = socket.recv_from(&mut [0; 512]).unwrap();
            socket.send_to(b"+PONG\r\n", client).unwrap();
        });
        let (ends, _) = client::exchange(server).unwrap();
        serving.join().unwrap();
        let frames = capture.collect().unwrap();
        let packets = frames.iter().map(|f| Packet::parse(f, &ends).unwrap());
        let seen: Vec<_> = packets.map(|p| (p.from, p.payload)).collect();
        let expected =
            [(Client, b"PING\r\n".to_vec()), (Server, b"+PONG\r\n".to_vec())];
        assert_eq!(seen, expected);
    }
}

#[test]
fn what_finds_no_room_is_counted() {
    let Some(capture) = open() else { return };
    let socket = UdpSocket::bind((V4, 0)).unwrap();
    let server = socket.local_addr().unwrap();
    capture.watch(Transport::Udp, server.port()).unwrap();
    let client = UdpSocket::bind((V4, 0)).unwrap();
    for _ in 0..5_000 {
        client.send_to(&[b'x'; 1_000], server).unwrap();
    }
    let taken = capture.collect().unwrap().len();
    let dropped = capture.dropped().unwrap() as usize;
    assert!(taken > 50 && dropped > 0, "{taken} taken, {dropped} dropped");
    assert_eq!(taken + dropped, 5_000);
}

/// A shell in a server's place.
fn host(script: &str) -> anyhow::Result<Host> {
    let arguments = ["-c".to_owned(), script.to_owned()];
    let shell = Path::new("/bin/sh");
    let socket = (Transport::Tcp, "127.0.0.1:0");
    Host::start(shell, &arguments, socket, Tracing::Optional)
}

/// Orphans that were killed are init's to reap, which takes it a moment.
fn check_gone(group: Pid) {
    let patience = Duration::from_secs(5);
    process::poll_until("the end of a group", patience, || {
        Ok(!process::group_exists(group))
    })
    .unwrap();
}

#[test]
fn a_server_that_dies_is_told_of() {
    let script = "echo ready tcp=127.0.0.1:1; echo error: broken >&2; exit 3";
    let host = host(script).unwrap();
    assert_eq!(host.address(), SocketAddr::from(([127, 0, 0, 1], 1)));
    let group = host.leader();
    let error = format!("{:#}", host.explain(anyhow!("no reply")));
    let expected = "the server has ended: exit status: 3; it said: broken: \
                    no reply";
    assert_eq!(error, expected);
    check_gone(group);
}

#[test]
fn nobody_is_left_of_a_server_that_is_not_needed() {
    let host = host("echo ready tcp=127.0.0.1:1; sleep 60 & sleep 60").unwrap();
    let group = host.leader();
    assert!(process::group_exists(group));
    drop(host);
    check_gone(group);
}

#[test]
fn a_server_that_cannot_run_here_says_why() {
    let error = host("echo error: no such call >&2; exit 77").unwrap_err();
    let reason = error.downcast_ref::<Unsupported>().map(ToString::to_string);
    assert_eq!(reason.as_deref(), Some("no such call"));
    let error = format!("{:#}", host("echo hello").unwrap_err());
    assert!(error.contains("expected a ready line, got \"hello\\n\""));
}
