//! Tests conversations on this machine's loopback with a packet socket.

use std::io::Read as _;
use std::io::Write as _;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket,
};
use std::path::Path;
use std::thread;
use std::time::Duration;

use Side::{Client, Server};
use anyhow::anyhow;
use lab::model::Transport;
use lab::test::skip;
use lab::{Unsupported, process};
use trace::host::{Host, Tracing};

use super::order;
use crate::afterwards::{self, Half};
use crate::call::Call;
use crate::capture::Capture;
use crate::client::{self, End};
use crate::packet::{Packet, Side};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A conversation, as it was captured.
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

/// Serves one client like the models do.
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

/// Exchanges data over another port.
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
    assert_eq!(packets.len(), frames.len(), "the filter accepts others");
    assert_eq!(capture.dropped().unwrap(), 0);
    let halves = afterwards::look(&ends).unwrap();
    Some(Conversation { packets, calls, halves })
}

/// Lists the senders and contents of packets, without pure acknowledgements,
/// which TCP may send or omit.
fn said(packets: &[Packet]) -> Vec<String> {
    let says = |packet: &&Packet| packet.consumes() > 0 || packet.is_reset();
    let text = |packet: &Packet| {
        let flags = [
            (packet.is_syn(), "SYN"),
            (packet.is_fin(), "FIN"),
            (packet.is_reset(), "RST"),
        ];
        let flag = flags.iter().find(|(is_set, _)| *is_set);
        let flag = flag.map_or("", |(_, flag)| *flag);
        let payload = packet.payload.trim_ascii_end().escape_ascii();
        format!("{} {flag}{payload}", packet.from)
    };
    packets.iter().filter(says).map(text).collect()
}

const HANDSHAKE_AND_PING: [&str; 4] =
    ["client SYN", "server SYN", "client PING", "server +PONG"];

#[test]
fn connections_end_as_they_should() {
    let client_ends: &[_] = &["client FIN", "server FIN"];
    let server_ends: &[_] =
        &["client QUIT", "server +OK", "server FIN", "client FIN"];
    let rows = [
        (V4, End::Client, client_ends, Some(Client)),
        (V6, End::Client, client_ends, Some(Client)),
        (V4, End::Server, server_ends, Some(Server)),
        (V4, End::Reset, &["client RST"], None),
    ];
    for (address, end, rest, waiting) in rows {
        let Some(seen) = converse(address, end) else { continue };
        let expected = [&HANDSHAKE_AND_PING[..], rest].concat();
        assert_eq!(said(&seen.packets), expected);
        let order = order(&seen.packets, &seen.calls);
        assert_eq!(order[..3], ["connect(server) ...", "Client", "Server"]);
        let halves = seen.halves.iter();
        assert!(halves.clone().all(Half::is_waiting), "{:?}", seen.halves);
        let sides: Vec<_> = halves.map(|half| half.side).collect();
        assert_eq!(sides, Vec::from_iter(waiting));
        for left in seen.halves.iter().filter_map(|half| half.left) {
            assert!((51..=60).contains(&left.as_secs()), "{left:?}");
        }
    }
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
fn dropped_packets_are_counted() {
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

#[test]
fn no_process_of_a_server_survives() {
    let dies = "echo error: broken >&2; exit 3";
    let expected = "the server has ended: exit status: 3; it said: broken: \
                    no reply";
    for (script, expected) in
        [(dies, Some(expected)), ("sleep 60 & sleep 60", None)]
    {
        // A shell takes the place of a server.
        let script = format!("echo ready tcp=127.0.0.1:1; {script}");
        let arguments = ["-c".to_owned(), script];
        let shell = Path::new("/bin/sh");
        let socket = (Transport::Tcp, "127.0.0.1:0");
        let host =
            Host::start(shell, &arguments, socket, Tracing::Optional).unwrap();
        let group = host.leader();
        match expected {
            Some(expected) => {
                let error = host.explain(anyhow!("no reply"));
                assert_eq!(format!("{error:#}"), expected);
            }
            None => drop(host),
        }
        // init reaps killed orphans, which takes a moment.
        let patience = Duration::from_secs(5);
        process::poll_until("the end of a group", patience, || {
            Ok(!process::group_exists(group))
        })
        .unwrap();
    }
}
