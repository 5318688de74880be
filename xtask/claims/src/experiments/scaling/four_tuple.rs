//! A connection is identified by both addresses and both ports, so one server
//! port serves as many clients as there are client addresses and ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "four-tuple",
    claim: "A connection is identified by four values: the addresses and the \
            ports of both sides.",
    section: "The greatest number of connections",
    criterion: "Three clients connect to one listener from the same port, two \
                of them from different addresses, and the third from the \
                address of the first. True if the first two are served at the \
                same time and the third is refused its address. False if one \
                of the first two fails or the third succeeds.",
    if_false: History::NeverTrue,
    sources: &[
        "RFC 9293, section 3.1",
        "ip(7), ip_local_port_range",
        "connect(2), EADDRNOTAVAIL",
    ],
    explanation: "Only the whole tuple must be unique. The server's port is \
                  the same for all clients, so the often heard limit of 65,535 \
                  connections does not exist for a server. It exists for one \
                  client address that connects to one server port, as a load \
                  balancer does.",
    run,
    file: file!(),
};

fn run(_effort: Effort) -> Result<Finding> {
    let listener = net::listener()?;
    let server = listener.local_addr()?;
    let first = connect(Ipv4Addr::new(127, 0, 0, 1), 0, server);
    let first = first.context("the first client")?;
    let port = first.local_addr()?.port();
    let second = connect(Ipv4Addr::new(127, 0, 0, 2), port, server);
    let third = connect(Ipv4Addr::new(127, 0, 0, 1), port, server);
    let mut served = 0;
    for client in [Ok(first), second].into_iter().flatten() {
        served += usize::from(is_served(&listener, &client)?);
    }
    let refused =
        matches!(third, Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL));
    Ok(Finding::new(
        judge(served, refused),
        [
            Figure::new("clients with one port served", "", served),
            Figure::new(
                "same address and port refused",
                "",
                usize::from(refused),
            ),
        ],
    ))
}

/// Connects from this address and port; port 0 is any.
fn connect(
    address: Ipv4Addr,
    port: u16,
    server: SocketAddr,
) -> nix::Result<TcpStream> {
    let attempt = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Lets bind use the port again; connect still checks the whole tuple.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((address, port)).into())?;
        socket.connect(&server.into())?;
        Ok(TcpStream::from(socket))
    };
    attempt().map_err(|error: std::io::Error| {
        Errno::from_raw(error.raw_os_error().unwrap_or(0))
    })
}

/// Accepts a connection and returns whether it is this client's.
fn is_served(listener: &TcpListener, client: &TcpStream) -> Result<bool> {
    let (_stream, peer) = listener.accept()?;
    Ok(peer == client.local_addr()?)
}

fn judge(served: usize, refused: bool) -> Answer {
    Answer::from_bool(served == 2 && refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_tuple_must_be_unique() {
        assert_eq!(judge(2, true), Answer::True);
        assert_eq!(judge(1, true), Answer::False);
        assert_eq!(judge(2, false), Answer::False);
    }
}
