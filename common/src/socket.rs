//! Sockets before a model uses them, and connections that a model rejects.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use socket2::{Domain, Socket, Type};

use crate::limits::REJECTED_INPUT;
use crate::{Cause, Config, log};

/// The reply to a rejected connection, in Redis's words.
const REJECTION: &[u8] = b"-ERR max number of clients reached\r\n";

/// Returns a listening socket and its address, if the command line asks for
/// one.
///
/// SO_REUSEADDR lets a restarted server bind its address while old connections
/// are in TIME_WAIT. With IPV6_V6ONLY an IPv6 address means IPv6 only. Accepted
/// sockets inherit two more options: TCP_NODELAY, because replies are sent
/// whole; and SO_OOBINLINE, so that a byte sent as urgent data stays in its
/// place in the stream, as RFC 6093 recommends. Without it SIOCINQ counts only
/// up to the urgent byte (include/net/tcp.h, tcp_inq), so that the drain would
/// leave unanswered what had arrived behind it.
///
/// # Errors
///
/// The address cannot be bound; the message names it.
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

/// Returns a datagram socket and its address, if the command line asks for one.
///
/// # Errors
///
/// The address cannot be bound; the message names it.
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

/// Returns a socket for `address` with the usual options, not bound yet, for a
/// model with more than one socket at an address.
///
/// # Errors
///
/// The kernel can't create a socket of this kind.
pub fn unbound(address: SocketAddr, kind: Type) -> std::io::Result<Socket> {
    let domain = Domain::for_address(address);
    // SOCK_CLOEXEC, so that no program that is executed inherits the socket, is
    // socket2's default.
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

/// Rejects a connection with an error reply, without ever waiting, so that
/// other clients are not delayed. The reply has Redis's words; `why` goes to
/// the log.
pub fn reject(stream: impl AsFd, why: std::fmt::Arguments<'_>) {
    log(Cause::Rejected, format_args!("connection rejected: {why}"));
    let fd = stream.as_fd().as_raw_fd();
    discard(fd, REJECTED_INPUT);
    // An empty send buffer has room for all of it. An error means that the
    // client has left, so it is ignored.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(fd, REJECTION, flags);
    let _ = shutdown(fd, Shutdown::Write);
}

/// Discards what has arrived, up to `most` bytes. Closing a socket with input
/// unread sends a reset, which would destroy the reply in transit.
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

/// A descriptor that is kept spare for the moment when no other is free.
///
/// accept(2) allocates a descriptor before it looks at the accept queue, so
/// without a free one it fails at once, even if the queue is empty, and a
/// server that tries again spins. When the spare descriptor is released, the
/// next accept succeeds. A connection that is accepted while it [can't be
/// reacquired](Self::reacquire) has taken the last descriptor, and is rejected.
#[derive(Debug)]
pub struct SpareDescriptor {
    held: Option<File>,
}

impl SpareDescriptor {
    /// Opens the spare descriptor.
    ///
    /// # Errors
    ///
    /// No descriptor is free even at the start.
    pub fn open() -> Result<Self> {
        let held = File::open("/dev/null")
            .context("cannot open a spare descriptor")?;
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
