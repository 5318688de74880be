//! One listener for all, and one datagram socket per loop, at the same address
//! (SO_REUSEPORT).

use std::io::{self, Error};
use std::iter;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Interest, Poll};
use nix::errno::Errno;
use socket2::{SockRef, Socket, Type};

use common::{Config, Unsupported};

use crate::DATAGRAMS;
use crate::cores::Kind;
use crate::hand_over::{self, Inbox, Outbox};

/// The bound sockets, and their addresses.
pub struct Bound {
    pub tcp: Option<SocketAddr>,
    pub udp: Option<SocketAddr>,
    pub listener: Option<OwnedFd>,
    /// The datagram socket of each loop.
    pub datagrams: Vec<Option<OwnedFd>>,
}

/// The descriptors that one loop waits for, registered with its epoll instance.
pub struct Sockets {
    pub poll: Poll,
    pub inbox: Inbox,
    pub datagrams: Option<OwnedFd>,
}

impl Bound {
    pub fn new(config: &Config, loops: u32) -> Result<Self> {
        let (listener, tcp) = common::listen(config)?.unzip();
        let (sockets, udp) = bind_datagrams(config, loops)?;
        for socket in listener.iter().chain(&sockets) {
            SockRef::from(socket)
                .set_nonblocking(true)
                .context("O_NONBLOCK")?;
        }
        let none = iter::repeat_with(|| None);
        let datagrams = sockets.into_iter().map(Some).chain(none);
        let datagrams = datagrams.take(loops as usize).collect();
        Ok(Self { tcp, udp, listener, datagrams })
    }
}

impl Sockets {
    /// Returns also the acceptor's end of the loop's queue.
    pub fn watched(
        kind: Kind,
        datagrams: Option<OwnedFd>,
    ) -> Result<(Self, Outbox)> {
        let poll = Poll::new().context("epoll_create1")?;
        let (inbox, outbox) = match kind {
            Kind::Threads => hand_over::queue(&poll)?,
            Kind::Processes => hand_over::pair(&poll)?,
        };
        if let Some(socket) = &datagrams {
            let mut source = SourceFd(&socket.as_raw_fd());
            poll.registry()
                .register(&mut source, DATAGRAMS, Interest::READABLE)
                .context("epoll_ctl")?;
        }
        Ok((Self { poll, inbox, datagrams }, outbox))
    }
}

/// Opens one datagram socket per loop, or none if there is no address. The
/// kernel picks one for each datagram by a hash of both ends' addresses and
/// ports.
///
/// The first socket is bound without SO_REUSEPORT, so that it fails if another
/// server has the address, and gets the option before the others are bound. See
/// `reuseport_group` in `loop-per-core/src/sockets.rs`.
fn bind_datagrams(
    config: &Config,
    loops: u32,
) -> Result<(Vec<OwnedFd>, Option<SocketAddr>)> {
    let Some((first, address)) = common::bind_datagrams(config)? else {
        return Ok((Vec::new(), None));
    };
    let mut sockets = vec![first];
    if loops > 1 {
        SockRef::from(&sockets[0]).set_reuse_port(true).map_err(unsupported)?;
    }
    for _ in 1..loops {
        let socket = bind_sibling(address, Type::DGRAM).with_context(|| {
            format!("cannot share udp {address} among loops")
        })?;
        sockets.push(socket.into());
    }
    Ok((sockets, Some(address)))
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
