//! A UDP client of a server under test.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::process::wait_readable;
use socket2::SockRef;

use super::PATIENCE;
use super::bytes::{difference, show};
use super::reply::{Info, Reply};

/// One UDP socket. It is not connected, so that it can check where replies come
/// from.
#[derive(Debug)]
pub struct Peer {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Peer {
    pub fn new(server: SocketAddr) -> Result<Self> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).context("bind")?;
        socket.set_read_timeout(Some(PATIENCE)).context("SO_RCVTIMEO")?;
        // Room for many of the largest datagrams; the default holds two.
        SockRef::from(&socket).set_recv_buffer_size(1 << 20)?;
        Ok(Self { socket, server })
    }

    pub fn send(&self, datagram: impl AsRef<[u8]>) -> Result<&Self> {
        let datagram = datagram.as_ref();
        let sent = self
            .socket
            .send_to(datagram, self.server)
            .with_context(|| format!("sending {}", show(datagram)))?;
        ensure!(sent == datagram.len(), "a datagram was sent in part");
        Ok(self)
    }

    /// Receives one datagram, which must hold `expected` and come from the
    /// server's address.
    pub fn expect(&self, expected: impl AsRef<[u8]>) -> Result<&Self> {
        let (expected, seen) = (expected.as_ref(), self.receive()?);
        ensure!(seen == expected, "{}", difference(expected, &seen));
        Ok(self)
    }

    /// Sends INFO and checks the form of the reply.
    pub fn info(&self) -> Result<Info> {
        Info::from_reply(&self.send("INFO\r\n")?.reply()?)
    }

    /// Receives one datagram, which must hold one reply of any kind.
    pub fn reply(&self) -> Result<Reply> {
        let datagram = self.receive()?;
        let mut rest = &datagram[..];
        let reply = Reply::read(&mut rest)?;
        ensure!(rest.is_empty(), "more than one reply");
        Ok(reply)
    }

    /// Returns whether a datagram arrives within 100 ms.
    pub fn has_answer(&self) -> Result<bool> {
        let moment = Instant::now() + Duration::from_millis(100);
        wait_readable(&self.socket, moment)
    }

    pub fn receive(&self) -> Result<Vec<u8>> {
        let mut seen = vec![0; 65_536];
        let (length, from) = match self.socket.recv_from(&mut seen) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("no datagram within {PATIENCE:?}")
            }
            Err(error) => return Err(error).context("receiving"),
        };
        ensure!(
            from == self.server,
            "sent to {}, but {from} has replied",
            self.server
        );
        seen.truncate(length);
        Ok(seen)
    }
}
