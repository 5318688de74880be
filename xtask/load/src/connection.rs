//! Opens the generator's connections, from as many source addresses as needed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Socket, Type};

use super::{PATIENCE, Script};
use crate::interrupt;

/// Connections from one source address. Each needs a port from
/// net.ipv4.ip_local_port_range, which has 28,000 by default.
const PER_SOURCE: usize = 20_000;

/// The longest line that rejects a connection, in bytes.
const LINE: usize = 256;

/// Connections opened before any is waited for: fewer than an accept queue
/// holds.
const AT_A_TIME: usize = 64;

/// The server accepts no more connections.
#[derive(Debug, thiserror::Error)]
#[error("accepted {held} connections; {why}")]
pub struct Full {
    pub held: usize,
    /// The reply to the next connection, or the error on it.
    pub why: String,
}

/// Returns the source address of connection `number`, None for the default one.
pub fn source(number: usize) -> Option<Ipv4Addr> {
    match number / PER_SOURCE {
        0 => None,
        // From 127.0.1.0, because other programs may use 127.0.0.x.
        further => {
            let [high, low] = u16::try_from(further)
                .unwrap_or(u16::MAX)
                .saturating_add(255)
                .to_be_bytes();
            Some(Ipv4Addr::new(127, 0, high, low))
        }
    }
}

/// Makes a socket with that source address. It gets its port at connect(2), so
/// that only the four-tuple must be unique, see IP_BIND_ADDRESS_NO_PORT in
/// ip(7).
pub fn socket(from: Option<Ipv4Addr>) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)
        .context("a socket for the generator")?;
    if let Some(address) = from {
        setsockopt(&socket, IpBindAddressNoPort, &true)
            .context("IP_BIND_ADDRESS_NO_PORT")?;
        let address = SocketAddr::from((address, 0));
        socket.bind(&address.into()).context("a source address")?;
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Opens connections until there are `wanted`, each with its first request
/// answered. Fails with `Full` if the server accepts no more.
pub fn bring(
    server: SocketAddr,
    script: &Script,
    connections: &mut Vec<TcpStream>,
    wanted: usize,
) -> Result<()> {
    while connections.len() < wanted {
        interrupt::check()?;
        let held = connections.len();
        let group = AT_A_TIME.min(wanted - held);
        let mut new = Vec::with_capacity(group);
        for number in held..held + group {
            let stream = greet(server, script, number);
            new.push(stream.map_err(|error| refused(error, held))?);
        }
        for stream in new {
            let held = connections.len();
            hear(&stream, script).map_err(|error| refused(error, held))?;
            connections.push(stream);
        }
    }
    Ok(())
}

/// Converts an error to [`Full`] if the server has rejected or reset the
/// connection.
fn refused(error: anyhow::Error, held: usize) -> anyhow::Error {
    let broken_off = error.downcast_ref().map(io::Error::kind);
    let full = error.is::<Refusal>()
        || matches!(
            broken_off,
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        );
    if full {
        return Full { held, why: format!("the next one: {error:#}") }.into();
    }
    error.context(format!("connection {}", held + 1))
}

/// The line that rejects a connection instead of a reply.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// Connects and sends one request.
fn greet(
    server: SocketAddr,
    script: &Script,
    number: usize,
) -> Result<TcpStream> {
    let socket = socket(source(number))?;
    socket.connect_timeout(&server.into(), PATIENCE).context("connect")?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = &script.requests[..script.request];
    stream.write_all(request).context("send")?;
    Ok(stream)
}

/// Waits for the reply, or for the line that rejects the connection.
fn hear(mut stream: &TcpStream, script: &Script) -> Result<()> {
    let mut reply = vec![0; script.reply().len().max(LINE)];
    let mut received = 0;
    loop {
        match stream.read(&mut reply[received..]) {
            Ok(0) if received == 0 => {
                return Err(Refusal("closed without a reply".to_owned()).into());
            }
            Ok(0) => bail!("the server ended the connection in mid-reply"),
            Ok(more) => received += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("no reply for {} s", PATIENCE.as_secs())
            }
            Err(error) => return Err(error).context("receive"),
        }
        let said = &reply[..received];
        if said.starts_with(b"-") {
            if let Some(line) = said.strip_suffix(b"\r\n") {
                let line = String::from_utf8_lossy(line).into_owned();
                return Err(Refusal(line).into());
            }
        } else if script.check(0, said)? == (1, 0) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::request::Request;

    #[test]
    fn more_connections_than_ports_have_more_addresses() {
        assert_eq!(source(0), None);
        assert_eq!(source(PER_SOURCE - 1), None);
        assert_eq!(source(PER_SOURCE), Some(Ipv4Addr::new(127, 0, 1, 0)));
        assert_eq!(source(3 * PER_SOURCE), Some(Ipv4Addr::new(127, 0, 1, 2)));
    }

    /// Connects three clients to a server that answers the first two, sends
    /// `reply` to the third, and ends. Returns the third's error.
    fn third(reply: &'static [u8]) -> anyhow::Error {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let pong = Request::Ping.reply();
            for reply in [&pong, &pong, reply] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut Request::Ping.bytes()).unwrap();
                stream.write_all(reply).unwrap();
            }
        });
        let script = Script::new(Request::Ping, 1);
        let mut connections = Vec::new();
        let error = bring(address, &script, &mut connections, 3).unwrap_err();
        assert_eq!(connections.len(), 2);
        server.join().unwrap();
        error
    }

    #[test]
    fn a_full_server_is_distinguished_from_a_wrong_one() {
        for reply in [&b"-ERR max number of clients reached\r\n"[..], b""] {
            let error = third(reply);
            let full = error.downcast_ref::<Full>();
            assert_eq!(full.unwrap().held, 2, "{error:#}");
        }
        for reply in [&b"+PO"[..], b"+PONK\r\n", b"+PONG\r\n+PONG\r\n"] {
            let error = third(reply);
            assert!(!error.is::<Full>(), "{error:#}");
        }
    }
}
