//! Connections on loopback.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{Backlog, listen};

/// The longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Returns a listener on a free port of 127.0.0.1.
pub fn listener() -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener.context("binding a listener")
}

/// Returns a listener with this backlog.
pub fn listener_with_backlog(backlog: i32) -> Result<TcpListener> {
    let listener = listener()?;
    listen(&listener, Backlog::new(backlog)?).context("listen")?;
    Ok(listener)
}

/// Returns the two ends of a TCP connection: the client's and the server's.
/// Receives fail after `PATIENCE`.
pub fn connection() -> Result<(TcpStream, TcpStream)> {
    let listener = listener()?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    Ok((client, server))
}

/// Returns two UDP sockets that are connected to each other.
pub fn datagram_sockets() -> Result<(UdpSocket, UdpSocket)> {
    let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    for socket in [&one, &other] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    Ok((one, other))
}
