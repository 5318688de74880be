//! The client: one conversation with blocking calls, and the times before and
//! after each call.

use std::io::Read as _;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::call::{Call, CallKind, Origin, now};
use super::packet::{Ends, Side};

/// How a conversation ends, and which side ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum End {
    /// The client sends the first FIN (shutdown(2) with SHUT_WR).
    Client,
    /// The server sends the first FIN, because the client sends QUIT.
    Server,
    /// The client resets the connection (SO_LINGER of 0 s).
    Reset,
}

const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";
const QUIT: &[u8] = b"QUIT\r\n";
const OK: &[u8] = b"+OK\r\n";
const END_OF_FILE: &[u8] = b"";

/// The client's pause between two steps: longer than the 40 ms by which the
/// kernel delays an acknowledgement (TCP_DELACK_MIN in include/net/tcp.h).
pub const PAUSE: Duration = Duration::from_millis(60);

/// The timeout of each call.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects, sends a request, receives the reply, and ends the connection.
pub fn converse(server: SocketAddr, end: End) -> Result<(Ends, Vec<Call>)> {
    let stream = Socket::new(Domain::for_address(server), Type::STREAM, None)
        .context("the client's socket")?;
    stream.set_read_timeout(Some(PATIENCE)).context("SO_RCVTIMEO")?;
    // SO_SNDTIMEO applies to connect(2) as well, see socket(7).
    stream.set_write_timeout(Some(PATIENCE)).context("SO_SNDTIMEO")?;
    let mut record = Record::default();
    record.call(CallKind::Connect, ("connect", "server"), || {
        stream.connect(&server.into()).map(|()| 0)
    })?;
    let own = stream.local_addr().context("getsockname")?;
    let client = own.as_socket().context("the client's address")?;
    thread::sleep(PAUSE);
    record.ask(&stream, PING, PONG)?;
    thread::sleep(PAUSE);
    match end {
        End::Client => {
            record.call(CallKind::Shutdown, ("shutdown", "SHUT_WR"), || {
                stream.shutdown(std::net::Shutdown::Write).map(|()| 0)
            })?;
            record.expect(&stream, END_OF_FILE)?;
        }
        End::Server => {
            record.ask(&stream, QUIT, OK)?;
            record.expect(&stream, END_OF_FILE)?;
            thread::sleep(PAUSE);
        }
        End::Reset => {
            let at_once = Some(Duration::ZERO);
            record.call(
                CallKind::Other,
                ("setsockopt", "SO_LINGER, 0 s"),
                || stream.set_linger(at_once).map(|()| 0),
            )?;
        }
    }
    record.close(stream)?;
    Ok((Ends { client, server }, record.calls))
}

/// Sends one datagram and waits for its reply.
pub fn exchange(server: SocketAddr) -> Result<(Ends, Vec<Call>)> {
    // On the loopback, both ends can use the same address.
    let socket =
        UdpSocket::bind((server.ip(), 0)).context("the client's socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("SO_RCVTIMEO")?;
    let client = socket.local_addr().context("getsockname")?;
    let mut record = Record::default();
    record.call(
        CallKind::Send(PING.len()),
        ("sendto", &format!("server, {}", quoted(PING))),
        || socket.send_to(PING, server),
    )?;
    let mut reply = [0; 512];
    let length = record.call(CallKind::Receive(0), ("recvfrom", ""), || {
        patient(|| socket.recv_from(&mut reply).map(|(length, _)| length))
    })?;
    let reply = &reply[..length];
    ensure!(reply == PONG, "the reply is {}", quoted(reply));
    record.close(socket)?;
    Ok((Ends { client, server }, record.calls))
}

/// Makes a receive call. Repeats it if a signal interrupts it, and reports a
/// timeout, for which the kernel returns EAGAIN.
fn patient(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let waited = format!("no data within {} s", PATIENCE.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, waited));
            }
            outcome => return outcome,
        }
    }
}

/// Formats bytes as a string literal.
pub fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// The calls so far.
#[derive(Debug, Default)]
struct Record {
    calls: Vec<Call>,
}

impl Record {
    fn call(
        &mut self,
        kind: CallKind,
        (name, about): (&str, &str),
        call: impl FnOnce() -> io::Result<usize>,
    ) -> Result<usize> {
        let begun = now();
        let outcome = call();
        let ended = now();
        let number = *outcome.as_ref().unwrap_or(&0);
        let text = format!("{name}({about})");
        self.calls.push(Call {
            side: Side::Client,
            origin: Origin::Client,
            kind: match kind {
                CallKind::Receive(_) => CallKind::Receive(number),
                other => other,
            },
            name: name.to_owned(),
            text: text.clone(),
            result: number.to_string(),
            begun,
            ended: Some(ended),
        });
        outcome.with_context(|| format!("the client's {text}"))
    }

    fn ask(
        &mut self,
        stream: &Socket,
        request: &[u8],
        reply: &[u8],
    ) -> Result<()> {
        let sends = CallKind::Send(request.len());
        let text = quoted(request);
        self.call(sends, ("sendto", &text), || stream.send(request))?;
        self.expect(stream, reply)
    }

    /// Receives a reply, in as many calls as needed. An empty reply is EOF.
    fn expect(&mut self, mut stream: &Socket, reply: &[u8]) -> Result<()> {
        let mut received = Vec::new();
        loop {
            let mut chunk = [0; 512];
            let length =
                self.call(CallKind::Receive(0), ("recvfrom", ""), || {
                    patient(|| stream.read(&mut chunk))
                })?;
            received.extend_from_slice(&chunk[..length]);
            if length == 0 || received.len() >= reply.len() {
                break;
            }
        }
        let (found, expected) = (quoted(&received), quoted(reply));
        ensure!(found == expected, "received {found} instead of {expected}");
        Ok(())
    }

    fn close<S>(&mut self, socket: S) -> Result<usize> {
        self.call(CallKind::Close, ("close", ""), || {
            drop(socket);
            Ok(0)
        })
    }
}
