//! SO_REUSEPORT: one listener and one datagram socket per loop, all at the same
//! address. In `shared` there is one listener for all loops.

use std::io::{self, Error};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Poll, Waker};
use nix::errno::Errno;
use socket2::{SockRef, Socket, Type};

use common::{Config, Unsupported};

use crate::listener::{Accept, Listener};
use crate::{DATAGRAMS, READABLE, SHUTDOWN};

/// The bound sockets of all loops, and their addresses.
pub struct Bound {
    pub tcp: Option<SocketAddr>,
    pub udp: Option<SocketAddr>,
    /// The listener that all loops share, if they do.
    pub shared: Option<Arc<OwnedFd>>,
    /// The sockets of each loop, and the waker that requests its drain.
    pub per_loop: Vec<(Sockets, Waker)>,
}

/// The sockets of one loop, registered with its epoll instance.
pub struct Sockets {
    pub poll: Poll,
    pub listener: Option<Listener>,
    pub datagrams: Option<OwnedFd>,
}

impl Bound {
    pub fn new(config: &Config, accept: Accept, loops: u32) -> Result<Self> {
        let count = match accept {
            Accept::Reuseport => loops,
            Accept::Shared => 1,
        };
        let (listeners, tcp) = listen(config, count)?;
        let (sockets, udp) = bind_datagrams(config, loops)?;
        let (mut listeners, mut sockets) =
            (listeners.into_iter(), sockets.into_iter());
        let shared = match accept {
            Accept::Reuseport => None,
            Accept::Shared => listeners.next().map(Arc::new),
        };
        let per_loop = (0..loops)
            .map(|number| {
                let listener = match &shared {
                    Some(socket) => {
                        let socket = Arc::clone(socket);
                        Some(Listener::Shared { socket, watched: false })
                    }
                    None => listeners.next().map(Listener::Own),
                };
                Sockets::watched(listener, sockets.next())
                    .with_context(|| format!("cannot set up loop {number}"))
            })
            .collect::<Result<_>>()?;
        Ok(Self { tcp, udp, shared, per_loop })
    }
}

impl Sockets {
    fn watched(
        mut listener: Option<Listener>,
        datagrams: Option<OwnedFd>,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let shutdown = Waker::new(poll.registry(), SHUTDOWN)?;
        if let Some(listener) = &mut listener {
            SockRef::from(listener.socket()).set_nonblocking(true)?;
            listener.watch(&poll)?;
        }
        if let Some(socket) = &datagrams {
            SockRef::from(socket).set_nonblocking(true)?;
            let mut source = SourceFd(&socket.as_raw_fd());
            poll.registry().register(&mut source, DATAGRAMS, READABLE)?;
        }
        Ok((Self { poll, listener, datagrams }, shutdown))
    }
}

/// Opens this many listening sockets, or none if there is no address. The
/// kernel picks one for each new connection by a hash of both ends' addresses
/// and ports.
fn listen(
    config: &Config,
    count: u32,
) -> Result<(Vec<OwnedFd>, Option<SocketAddr>)> {
    let Some((first, address)) = common::listen(config)? else {
        return Ok((Vec::new(), None));
    };
    let sockets = reuseport_group(first, count, || {
        let socket = bind_sibling(address, Type::STREAM)?;
        socket.listen(config.backlog)?;
        Ok(socket)
    });
    let sockets = sockets
        .with_context(|| format!("cannot share tcp {address} among loops"))?;
    Ok((sockets, Some(address)))
}

/// Opens one datagram socket per loop, or none if there is no address.
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
/// socket(7) requires SO_REUSEPORT on all of them before bind(2). But then a
/// second server could bind the address too, unnoticed, and take half of the
/// clients. So the first socket is bound, and listens, without the option; if
/// another server has the address, it fails with EADDRINUSE. Then it gets the
/// option, and the others are bound. That works because the kernel checks the
/// option that a bound socket has when another one is bound to its port
/// (inet_csk_get_port in net/ipv4/inet_connection_sock.c, udp_lib_get_port in
/// net/ipv4/udp.c; seen on Linux 6.18). The first socket of a second server
/// does not have the option, so its bind fails.
///
/// Setting the option before listen(2) would be too early: SO_REUSEADDR lets
/// two servers that start together bind one address, and both would listen.
///
/// Connections that come before the others listen go to the first loop.
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
    let why = "it requires Linux 3.9; otherwise use --loops 1".to_owned();
    Unsupported { call: "setsockopt(SO_REUSEPORT)", why }.into()
}

/// Binds a further socket to an address, with SO_REUSEPORT.
fn bind_sibling(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = common::unbound(address, kind)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
