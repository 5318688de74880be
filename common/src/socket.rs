//! Sockets before a model gets them, and new clients it cannot take: what no
//! model is about.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use socket2::{Domain, Socket, Type};

use crate::limits::REJECTED_INPUT;
use crate::{Cause, Config, log};

/// What a new client is told when there is no room: Redis's own words.
const REJECTION: &[u8] = b"-ERR max number of clients reached\r\n";

/// A listening socket, if the command line asks for one, and its address.
///
/// SO_REUSEADDR, because a server that restarts must not wait for connections
/// in TIME_WAIT; IPV6_V6ONLY, so that an address means what it says. Accepted
/// sockets inherit two more: TCP_NODELAY, because replies are sent whole; and
/// SO_OOBINLINE, so that a byte sent as urgent data is a byte of the stream,
/// in its place, as RFC 6093 wants it. Without that option SIOCINQ counts only
/// up to the urgent byte (include/net/tcp.h, tcp_inq), so a stop would leave
/// unanswered what had arrived behind it.
///
/// # Errors
///
/// The address cannot be bound: the message names it.
pub fn listen(config: &Config) -> Result<Option<(OwnedFd, SocketAddr)>> {
    let Some(address) = config.tcp else { return Ok(None) };
    let bound = bind(address, Type::STREAM)
        .and_then(|socket| {
            socket.listen(config.backlog)?;
            named(socket)
        })
        .with_context(|| format!("cannot listen on tcp {address}"))?;
    Ok(Some(bound))
}

/// A datagram socket, if the command line asks for one, and its address.
///
/// # Errors
///
/// The address cannot be bound: the message names it.
pub fn bind_datagrams(
    config: &Config,
) -> Result<Option<(OwnedFd, SocketAddr)>> {
    let Some(address) = config.udp else { return Ok(None) };
    let bound = bind(address, Type::DGRAM)
        .and_then(named)
        .with_context(|| format!("cannot receive on udp {address}"))?;
    Ok(Some(bound))
}

fn bind(address: SocketAddr, kind: Type) -> std::io::Result<Socket> {
    let socket = unbound(address, kind)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket for `address` with the options of all others, not bound yet: for a
/// model that has more than one at an address.
///
/// # Errors
///
/// The kernel has no socket of this kind to give.
pub fn unbound(address: SocketAddr, kind: Type) -> std::io::Result<Socket> {
    let domain = Domain::for_address(address);
    // SOCK_CLOEXEC is socket2's default.
    let socket = Socket::new(domain, kind, None)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?;
    }
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn named(socket: Socket) -> std::io::Result<(OwnedFd, SocketAddr)> {
    let address = socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| std::io::Error::from(Errno::EAFNOSUPPORT))?;
    Ok((socket.into(), address))
}

/// Turns a new client away with a word, and keeps nothing of it. Never waits:
/// those who are being served notice nothing. The new client is told in Redis's
/// words; `why` is for whoever runs the server.
pub fn reject(stream: impl AsFd, why: std::fmt::Arguments<'_>) {
    log(Cause::Rejected, format_args!("connection rejected: {why}"));
    let fd = stream.as_fd().as_raw_fd();
    discard(fd, REJECTED_INPUT);
    // An empty send buffer takes it whole; if the client is gone already,
    // nobody misses it.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(fd, REJECTION, flags);
    let _ = shutdown(fd, Shutdown::Write);
}

/// Takes what has arrived, `most` bytes of it, and drops it: closing a socket
/// with input unread sends a reset, which destroys the refusal on its way.
fn discard(fd: i32, most: usize) {
    let mut scrap = [0; 4096];
    let mut taken = 0;
    while taken < most {
        match recv(fd, &mut scrap, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return,
            Ok(received) => taken += received,
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// A descriptor held for the moment when there is none left.
///
/// accept(2) takes a descriptor before it looks for a new client, so without one
/// it fails at once, even when nobody waits: a server that just tries again
/// spins. Released, the reserve lets the next new client in; and whoever comes
/// in while it [cannot be retaken](Self::reacquire) has the last descriptor and
/// is refused.
#[derive(Debug)]
pub struct SpareDescriptor {
    held: Option<File>,
}

impl SpareDescriptor {
    /// Takes a descriptor into reserve.
    ///
    /// # Errors
    ///
    /// There is none, at start already.
    pub fn open() -> Result<Self> {
        let held = File::open("/dev/null")
            .context("cannot hold a descriptor in reserve")?;
        Ok(Self { held: Some(held) })
    }

    /// Closes the descriptor, so that another can be opened. Returns false if
    /// it was closed already.
    pub fn release(&mut self) -> bool {
        self.held.take().is_some()
    }

    /// Opens a spare descriptor again, if it was released. Returns false if
    /// there is none.
    pub fn reacquire(&mut self) -> bool {
        if self.held.is_none() {
            self.held = File::open("/dev/null").ok();
        }
        self.held.is_some()
    }
}
