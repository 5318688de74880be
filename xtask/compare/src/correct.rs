//! What does not answer correctly is not timed.
//!
//! Not a suite, which is `cargo xtask test`: a minute's worth of doubt, spent
//! in a millisecond. Several clients at a time, each with bytes of its own, so
//! that one client's reply to another would show.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context, Result, bail};
use lab::model::Transport;
use load::request::Request;
use load::{PATIENCE, difference};

use super::contender::Contender;
use super::serving::Serving;
use super::workload::{Load, Workload};

/// Clients at a time, where the server takes more than one.
const CLIENTS: usize = 8;

/// Says what is wrong with the server, if anything is.
pub fn check(contender: &Contender) -> Result<()> {
    if !contender.understands() {
        return Ok(());
    }
    if contender.serves(Transport::Tcp) {
        let server = Serving::start(contender, &anything(Load::Closed), None)?;
        let clients = if contender.serves_one() { 1 } else { CLIENTS };
        check_streams(server.address, clients)?;
        server.stop()?;
    }
    if contender.serves(Transport::Udp) {
        let datagrams = anything(Load::Datagrams);
        let server = Serving::start(contender, &datagrams, None)?;
        check_datagrams(server.address)?;
        server.stop()?;
    }
    Ok(())
}

/// A workload that says no more than the transport.
fn anything(load: Load) -> Workload {
    Workload {
        name: "correctness".to_owned(),
        title: "Correctness".to_owned(),
        load,
        request: Request::Ping,
        connections: 1,
        pipeline: 1,
        busy: None,
        idle: 0,
        rate: None,
        quick: false,
    }
}

/// What client number so-and-so says, and what it must be told.
fn script(client: usize) -> (Vec<u8>, Vec<u8>) {
    let own = format!("client {client}: \0\r\n\u{fffd}").repeat(97 + client);
    let size = own.len();
    let requests = [
        format!("*2\r\n$4\r\nECHO\r\n${size}\r\n{own}\r\n"),
        "*1\r\n$4\r\nPING\r\n".to_owned(),
        "PING\r\n".to_owned(),
        format!("*2\r\n$4\r\nping\r\n${size}\r\n{own}\r\n"),
        "*1\r\n$4\r\nQUIT\r\n".to_owned(),
    ];
    let replies = [
        format!("${size}\r\n{own}\r\n"),
        "+PONG\r\n".to_owned(),
        "+PONG\r\n".to_owned(),
        format!("${size}\r\n{own}\r\n"),
        "+OK\r\n".to_owned(),
    ];
    (requests.concat().into(), replies.concat().into())
}

fn check_streams(server: SocketAddr, clients: usize) -> Result<()> {
    let mut streams = Vec::with_capacity(clients);
    for _ in 0..clients {
        let stream =
            TcpStream::connect_timeout(&server, PATIENCE).context("connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    // In pieces, and in turn, so that all of them are served at a time.
    for part in 0..3 {
        for (client, stream) in streams.iter_mut().enumerate() {
            let (requests, _) = script(client);
            let piece = requests.len().div_ceil(3);
            let piece = requests.chunks(piece).nth(part).unwrap_or(&[]);
            stream.write_all(piece).context("send")?;
        }
    }
    for (client, mut stream) in streams.into_iter().enumerate() {
        let mut replies = Vec::new();
        match stream.read_to_end(&mut replies) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => drop(result.context("receive")?),
        }
        compare(&replies, &script(client).1)
            .with_context(|| format!("client {client} of {clients}"))?;
    }
    Ok(())
}

fn check_datagrams(server: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
    socket.connect(server).context("connect")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (requests, expected) = script(0);
    socket.send(&requests).context("send")?;
    let mut reply = [0; 65_536];
    let received = socket.recv(&mut reply).context("receive")?;
    compare(&reply[..received], &expected).context("a datagram")
}

fn compare(received: &[u8], expected: &[u8]) -> Result<()> {
    if received != expected {
        let (byte, what) = difference(received, expected);
        bail!("byte {byte} of the replies is wrong: {what}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What is said of a server that sends this to everybody.
    fn verdict(replies: Vec<u8>) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (requests, _) = script(0);
            let mut received = vec![0; requests.len()];
            stream.read_exact(&mut received).unwrap();
            stream.write_all(&replies).unwrap();
        });
        let verdict = check_streams(address, 1);
        server.join().unwrap();
        verdict
    }

    #[test]
    fn a_right_server_passes() {
        verdict(script(0).1).unwrap();
    }

    #[test]
    fn a_wrong_byte_does_not() {
        let mut replies = script(0).1;
        let last = replies.len() - 3;
        replies[last] ^= 1;
        let error = format!("{:#}", verdict(replies).unwrap_err());
        assert!(error.contains(&format!("byte {last} of")), "{error}");
    }

    #[test]
    fn nor_does_a_missing_one_or_one_too_many() {
        let replies = script(0).1;
        verdict(replies[..replies.len() - 1].to_vec()).unwrap_err();
        verdict([&replies[..], b"+"].concat()).unwrap_err();
        verdict(script(1).1).unwrap_err();
    }
}
