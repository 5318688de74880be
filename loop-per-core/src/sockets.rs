//! One address, as many sockets as there are loops: SO_REUSEPORT.

use std::io::{self, Error};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use nix::errno::Errno;
use socket2::{SockRef, Socket, Type};

use common::{Config, Unsupported};

use crate::{DATAGRAMS, LISTENER, SHUTDOWN};

/// Where the sockets are bound.
pub struct Bound {
    pub tcp: Option<SocketAddr>,
    pub udp: Option<SocketAddr>,
    /// Each loop's share, and what wakes it: that means stop.
    pub shares: Vec<(Sockets, Waker)>,
}

/// What one loop waits for, before there are connections.
pub struct Sockets {
    pub poll: Poll,
    pub listener: Option<OwnedFd>,
    pub datagrams: Option<OwnedFd>,
}

impl Bound {
    pub fn new(config: &Config, loops: u32) -> Result<Self> {
        let (listeners, tcp) = listen(config, loops)?;
        let (sockets, udp) = bind_datagrams(config, loops)?;
        let (mut listeners, mut sockets) =
            (listeners.into_iter(), sockets.into_iter());
        let shares = (0..loops)
            .map(|number| {
                Sockets::watched(listeners.next(), sockets.next())
                    .with_context(|| format!("cannot set up loop {number}"))
            })
            .collect::<Result<_>>()?;
        Ok(Self { tcp, udp, shares })
    }
}

impl Sockets {
    fn watched(
        listener: Option<OwnedFd>,
        datagrams: Option<OwnedFd>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let shutdown = Waker::new(poll.registry(), SHUTDOWN)?;
        for (socket, token) in [(&listener, LISTENER), (&datagrams, DATAGRAMS)]
        {
            let Some(socket) = socket else { continue };
            SockRef::from(socket).set_nonblocking(true)?;
            let mut source = SourceFd(&socket.as_raw_fd());
            poll.registry().register(&mut source, token, Interest::READABLE)?;
        }
        Ok((Self { poll, listener, datagrams }, shutdown))
    }
}

/// Listening sockets, one for each loop, or none if there is no address. The
/// kernel chooses one for each client by a hash of both ends' addresses and
/// ports.
fn listen(
    config: &Config,
    loops: u32,
) -> Result<(Vec<OwnedFd>, Option<SocketAddr>)> {
    let Some((first, address)) = common::listen(config)? else {
        return Ok((Vec::new(), None));
    };
    let sockets = reuseport_group(first, loops, || {
        let socket = bind_sibling(address, Type::STREAM)?;
        socket.listen(config.backlog)?;
        Ok(socket)
    });
    let sockets = sockets
        .with_context(|| format!("cannot share tcp {address} among loops"))?;
    Ok((sockets, Some(address)))
}

/// The same for datagrams.
fn bind_datagrams(
    config: &Config,
    loops: u32,
) -> Result<(Vec<OwnedFd>, Option<SocketAddr>)> {
    let Some((first, address)) = common::bind_datagrams(config)? else {
        return Ok((Vec::new(), None));
    };
    let sockets =
        reuseport_group(first, loops, || bind_sibling(address, Type::DGRAM))
            .with_context(|| {
                format!("cannot share udp {address} among loops")
            })?;
    Ok((sockets, Some(address)))
}

/// Adds sockets to the first one until each loop has its own.
///
/// socket(7) wants SO_REUSEPORT on all of them before bind(2). But then a
/// second server would join them without a word, and take half of the clients.
/// So the first is bound, and listens, without the option: the address is
/// ours, or EADDRINUSE. Only then it gets the option and the others join, for
/// the kernel looks at what a bound socket has by the time when another one is
/// bound to its port (inet_csk_get_port in net/ipv4/inet_connection_sock.c,
/// udp_lib_get_port in net/ipv4/udp.c; seen on Linux 6.18). A second server's
/// first socket has no such option, and is rejected.
///
/// Before listen(2) would be too early: SO_REUSEADDR lets two servers that
/// start together bind one address, and both would listen.
///
/// Clients that come before the others listen are the first loop's.
fn reuseport_group(
    first: OwnedFd,
    loops: u32,
    another: impl Fn() -> io::Result<Socket>,
) -> Result<Vec<OwnedFd>> {
    if loops > 1 {
        SockRef::from(&first).set_reuse_port(true).map_err(unsupported)?;
    }
    let mut sockets = vec![first];
    for _ in 1..loops {
        sockets.push(another()?.into());
    }
    Ok(sockets)
}

fn unsupported(error: Error) -> anyhow::Error {
    if error.raw_os_error() != Some(Errno::ENOPROTOOPT as i32) {
        return error.into();
    }
    let why = "Linux has it since 3.9; without it, give --loops 1".to_owned();
    Unsupported { call: "setsockopt(SO_REUSEPORT)", why }.into()
}

/// A socket at an address that has one already.
fn bind_sibling(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = common::unbound(address, kind)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
