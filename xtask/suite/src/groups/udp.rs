//! Datagrams: each carries whole requests, and its reply carries all replies.

use std::io::Error;
use std::rc::Rc;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::bytes::{bulk, difference, echo, payload, request};
use crate::case::{Case, For, Trial};
use crate::datagrams::Peer;
use crate::reply::{Info, Reply};
use crate::server::Server;

/// The most bytes that a datagram can carry over IPv4: 65,535 less the headers
/// of IP and UDP.
const LARGEST: usize = 65_507;

const INCOMPLETE: &str = "-ERR incomplete request\r\n";
const MALFORMED: &str = "-ERR malformed request\r\n";
const TOO_LARGE: &str = "-ERR reply too large for a datagram\r\n";

pub fn cases() -> Vec<Case> {
    vec![
        exchange("ping", ping),
        exchange("echo", echo_any_bytes),
        exchange("several_requests", several_requests),
        exchange("quit_ignores_the_rest", quit),
        exchange("hello_lasts_one_datagram", hello),
        case("info_once_per_datagram", info),
        exchange("incomplete", incomplete),
        exchange("malformed", malformed),
        exchange("unknown_command", unknown_command),
        exchange("empty", empty),
        exchange("largest_request", largest_request),
        exchange("largest_reply", largest_reply),
        exchange("reply_too_large", reply_too_large),
        exchange("limits::request", request_limits),
        exchange("limits::reply", reply_limits),
        case("hundred_clients", hundred_clients),
        case("flood", flood),
        case("from_the_address_asked", from_the_address_asked),
        case("ipv6", ipv6),
        case("ipv6_largest_request", ipv6_largest),
        case("beside_streams", beside_streams).only(For::Many),
    ]
}

fn case(
    name: &str,
    body: impl Fn(&Trial) -> Result<()> + Send + Sync + 'static,
) -> Case {
    Case::new(name, move |trial| {
        trial.needs_datagrams()?;
        body(trial)
    })
}

/// Makes a case about one peer of a datagram server. The next datagram must be
/// answered as if it were the first, whatever the peer has sent.
fn exchange(name: &str, body: fn(&Peer) -> Result<()>) -> Case {
    case(name, move |trial| {
        let (_server, peer) = serve(trial)?;
        body(&peer)?;
        still_well(&peer)
    })
}

/// Starts a server for datagrams only, and opens a peer.
fn serve(trial: &Trial) -> Result<(Rc<Server>, Peer)> {
    let server = trial.launch().only_udp("127.0.0.1:0").start()?;
    let peer = server.peer()?;
    Ok((server, peer))
}

fn still_well(peer: &Peer) -> Result<()> {
    peer.send("PING\r\n")?.expect("+PONG\r\n").map(drop)
}

fn ping(peer: &Peer) -> Result<()> {
    peer.send("PING\r\n")?.expect("+PONG\r\n")?;
    peer.send(request(&["ping"]))?.expect("+PONG\r\n")?;
    peer.send(request(&["PING", "hello"]))?.expect(bulk("hello"))?;
    Ok(())
}

fn echo_any_bytes(peer: &Peer) -> Result<()> {
    let every_byte: Vec<u8> = (0..=255).collect();
    for payload in [&every_byte[..], b"", b"\r\n", b"*1\r\n$4\r\nQUIT\r\n"] {
        let (request, reply) = echo(payload);
        peer.send(request)?.expect(reply)?;
    }
    Ok(())
}

fn several_requests(peer: &Peer) -> Result<()> {
    let (first, second) = (echo("first"), echo("second"));
    peer.send([&*first.0, b"PING\r\n", b"\r\n", &second.0].concat())?
        .expect([&*first.1, b"+PONG\r\n", &second.1].concat())?;
    Ok(())
}

fn quit(peer: &Peer) -> Result<()> {
    peer.send("QUIT\r\n")?.expect("+OK\r\n")?;
    peer.send("PING\r\nQUIT\r\nPING\r\n*x\r\n")?.expect("+PONG\r\n+OK\r\n")?;
    Ok(())
}

/// No state is kept from one datagram to the next.
fn hello(peer: &Peer) -> Result<()> {
    let reply = peer.send("HELLO 3\r\n")?.reply()?;
    ensure!(matches!(reply, Reply::Map(_)), "expected a map, seen {reply:?}");
    let reply = peer.send("HELLO\r\n")?.reply()?;
    let array = matches!(reply, Reply::Array(_));
    ensure!(array, "expected RESP2, seen {reply:?}");
    Ok(())
}

/// INFO multiplies what is sent, so it is answered once per datagram: the
/// sender may have forged the address that the reply goes to.
fn info(trial: &Trial) -> Result<()> {
    let (_server, peer) = serve(trial)?;
    let info = peer.info()?;
    let model = info.text("model")?;
    ensure!(model == trial.subject.model.name, "its model is {model}");
    let reply = peer.send("INFO\r\nPING\r\ninfo\r\nPING\r\n")?.receive()?;
    let mut rest = &reply[..];
    Info::from_reply(&Reply::read(&mut rest)?)?;
    let expected =
        b"+PONG\r\n-ERR INFO is answered once a datagram\r\n+PONG\r\n";
    ensure!(rest == expected, "{}", difference(expected, rest));
    still_well(&peer)
}

fn incomplete(peer: &Peer) -> Result<()> {
    let whole = echo("hello").0;
    for length in 1..whole.len() {
        let part = &whole[..length];
        peer.send(part)?
            .expect(INCOMPLETE)
            .with_context(|| format!("{length} bytes"))?;
    }
    // One incomplete request makes the whole datagram invalid.
    peer.send("PING\r\nPING")?.expect(INCOMPLETE)?;
    peer.send("PING")?.expect(INCOMPLETE)?;
    Ok(())
}

fn malformed(peer: &Peer) -> Result<()> {
    for datagram in [
        "*x\r\n",
        "*1\r\n$x\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n$-1\r\n",
        "PING \"a\r\n",
        "PING\r\n*x\r\n",
        "*x\r\nPING\r\n",
    ] {
        peer.send(datagram)?.expect(MALFORMED).context(datagram)?;
    }
    Ok(())
}

/// An error of this kind is a reply like any other.
fn unknown_command(peer: &Peer) -> Result<()> {
    peer.send("PING\r\nfoo bar\r\nPING\r\n")?.expect(
        "+PONG\r\n-ERR unknown command 'foo', \
         with args beginning with: 'bar' \r\n+PONG\r\n",
    )?;
    Ok(())
}

fn empty(peer: &Peer) -> Result<()> {
    // Replies come in order: one to an empty datagram would come first.
    for nothing in ["", "\r\n", "*0\r\n", "*-1\r\n"] {
        peer.send(nothing)?;
    }
    still_well(peer)?;
    Ok(())
}

fn largest_request(peer: &Peer) -> Result<()> {
    // The bytes around the payload, for a length of this many digits.
    let around = echo(payload(1, 65_000)).0.len() - 65_000;
    let (request, reply) = echo(payload(1, LARGEST - around));
    ensure!(request.len() == LARGEST, "{} bytes", request.len());
    peer.send(request)?.expect(reply)?;
    Ok(())
}

/// Replies that fill a datagram to the last byte.
fn largest_reply(peer: &Peer) -> Result<()> {
    let (pings, rest) = (LARGEST / 7, LARGEST % 7);
    // A reply of 7 + `rest` bytes fills the gap.
    let (last, reply) = echo("x".repeat(rest + 1));
    let pings = pings - 1 - usize::from(reply.len() > 7 + rest);
    let sent = ["PING\n".repeat(pings).as_bytes(), &last].concat();
    let expected = ["+PONG\r\n".repeat(pings).as_bytes(), &reply].concat();
    ensure!(expected.len() <= LARGEST && expected.len() + 7 > LARGEST);
    peer.send(sent)?.expect(expected)?;
    Ok(())
}

fn reply_too_large(peer: &Peer) -> Result<()> {
    let one_too_many = LARGEST / 7 + 1;
    peer.send("PING\n".repeat(one_too_many))?.expect(TOO_LARGE)?;
    peer.send("PING\n".repeat(LARGEST / 5))?.expect(TOO_LARGE)?;
    Ok(())
}

/// Requests that fill a datagram, or all but one byte of it. A larger datagram
/// can't be sent, so the server never has to reject one.
fn request_limits(peer: &Peer) -> Result<()> {
    for length in [LARGEST - 1, LARGEST] {
        for end in ["\n", "\r\n"] {
            let words = "PING x";
            let blanks = " ".repeat(length - words.len() - end.len());
            let datagram = format!("{words}{blanks}{end}");
            ensure!(datagram.len() == length);
            let context = || format!("{length} bytes with {end:?}");
            peer.send(&datagram)?.expect(bulk("x")).with_context(context)?;
            // The last byte is missing.
            let part = format!("{}.", &datagram[..length - 1]);
            peer.send(part)?.expect(INCOMPLETE).with_context(context)?;
        }
    }
    let error = peer.send("\n".repeat(LARGEST + 1)).err();
    let error = error.as_ref().and_then(|e| e.downcast_ref::<Error>());
    let code = error.and_then(Error::raw_os_error);
    ensure!(code == Some(libc::EMSGSIZE), "a larger datagram: {error:?}");
    Ok(())
}

/// Replies that fill a datagram, or all but one byte of it, or do not fit.
fn reply_limits(peer: &Peer) -> Result<()> {
    let around = bulk("x".repeat(65_000)).len() - 65_000;
    for length in [LARGEST - 1, LARGEST, LARGEST + 1] {
        let message = "x".repeat(length - around);
        let reply = bulk(&message);
        ensure!(reply.len() == length);
        let reply = if length <= LARGEST { reply } else { TOO_LARGE.into() };
        peer.send(format!("ECHO {message}\n"))?
            .expect(reply)
            .with_context(|| format!("a reply of {length} bytes"))?;
    }
    Ok(())
}

fn hundred_clients(trial: &Trial) -> Result<()> {
    let (server, _) = serve(trial)?;
    let peers = (0..100).map(|_| server.peer()).collect::<Result<Vec<_>>>()?;
    for round in 0..3 {
        // Ten at a time: a full socket buffer drops datagrams.
        for (ten, peers) in peers.chunks(10).enumerate() {
            let words = |i| echo(payload(round * 100 + ten * 10 + i, 200));
            for (i, peer) in peers.iter().enumerate() {
                peer.send(words(i).0)?;
            }
            for (i, peer) in peers.iter().enumerate().rev() {
                let name = || format!("client {}", ten * 10 + i);
                peer.expect(words(i).1).with_context(name)?;
            }
        }
    }
    Ok(())
}

/// The peer sends more than the server's buffer holds and reads no replies.
/// Some datagrams are lost, but the server goes on.
fn flood(trial: &Trial) -> Result<()> {
    let (server, deaf) = serve(trial)?;
    let (request, _) = echo(payload(3, 20_000));
    for _ in 0..500 {
        deaf.send(&request)?;
    }
    // Repeated, as it may be lost in the flood.
    let peer = server.peer()?;
    for _ in 0..100 {
        thread::yield_now();
        peer.send("PING\r\n")?;
        if peer.has_answer()? {
            return peer.expect("+PONG\r\n").map(drop);
        }
    }
    anyhow::bail!("no reply to 100 requests after the flood")
}

/// A reply comes from the address that was asked. All of 127.0.0.0/8 are
/// addresses of this host.
fn from_the_address_asked(trial: &Trial) -> Result<()> {
    let server = trial.launch().only_udp("127.0.0.2:0").start()?;
    ensure!(server.udp()?.ip().to_string() == "127.0.0.2");
    still_well(&server.peer()?)
}

fn ipv6(trial: &Trial) -> Result<()> {
    super::needs_ipv6()?;
    let server = trial.launch().only_udp("[::1]:0").start()?;
    let peer = server.peer()?;
    let (request, reply) = echo(payload(4, 1000));
    peer.send(request)?.expect(reply)?;
    still_well(&peer)
}

/// IPv6 carries 20 bytes more, because its length does not include its header.
/// With a smaller buffer, the kernel would truncate the datagram without an
/// error.
fn ipv6_largest(trial: &Trial) -> Result<()> {
    super::needs_ipv6()?;
    let server = trial.launch().only_udp("[::1]:0").start()?;
    let peer = server.peer()?;
    let lines = "\n".repeat(LARGEST + 20 - "PING\r\n".len());
    peer.send(lines + "PING\r\n")?.expect("+PONG\r\n")?;
    still_well(&peer)
}

/// Both services work in one process without disturbing each other.
fn beside_streams(trial: &Trial) -> Result<()> {
    let server = trial.launch().udp("127.0.0.1:0").start()?;
    let peer = server.peer()?;
    let mut client = server.connect()?;
    for _ in 0..50 {
        client.send("*2\r\n$4\r\nECHO\r\n$5\r\nhe")?;
        still_well(&peer)?;
        client.send("llo\r\n")?.expect(bulk("hello"))?;
    }
    drop(client);
    still_well(&peer)
}
