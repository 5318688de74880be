//! TCP identifies a connection by four values: both addresses and both ports.
//! A port can therefore be used again with another address.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use nix::errno::Errno;

use super::idle::{self, Connection};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net::PATIENCE;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "four-tuple",
    claim: "A connection is identified by both addresses and both ports, so a \
            server's port serves more connections than there are ports.",
    section: "How a server serves more",
    criterion: "Clients with a range of 50 ports connect from each of three \
                addresses to each of two servers until connect fails with \
                EADDRNOTAVAIL. True if each pair of addresses opens at least \
                40 and at most 50 connections, all with four values of their \
                own, and a byte of each client arrives at its own socket of \
                the server. False otherwise.",
    if_false: History::NeverTrue,
    sources: &[
        "RFC 9293, section 3.4",
        "ip(7)",
        "IP_LOCAL_PORT_RANGE(2const), since Linux 6.3",
    ],
    explanation: "The kernel looks a segment's connection up by the four \
                  values. For one server port the client's address and port \
                  can vary, so the number of ports limits one client address \
                  and not the server. A proxy is such a client address: its \
                  connections to one server end with its range of ports.",
    run,
    file: file!(),
};

/// The number of ports from which a client's port is chosen.
const PORTS: u16 = 50;
/// Other sockets may occupy some of them.
const EXPECTED: u16 = 40;
/// The addresses of the clients. All of 127.0.0.0/8 is on the loopback device.
const CLIENTS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 0, 0, 2),
    Ipv4Addr::new(127, 0, 0, 3),
];
const SERVERS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 4)];

fn run(_effort: Effort) -> Result<Finding> {
    let first = TcpListener::bind((SERVERS[0], 0))?;
    let port = first.local_addr()?.port();
    let second = TcpListener::bind((SERVERS[1], port))?;
    let (mut connections, mut per_pair) = (Vec::new(), Vec::new());
    for listener in [&first, &second] {
        for client in CLIENTS {
            let opened = open_all(listener, client)?;
            per_pair.push(opened.len() as f64);
            connections.extend(opened);
        }
    }
    // All are open at the same time now.
    let mut identities = BTreeSet::new();
    for (client, _) in &connections {
        identities.insert((client.local_addr()?, client.peer_addr()?));
    }
    let (all, separate) = (connections.len(), separate(&mut connections)?);
    let per_pair = Sample::new(per_pair);
    Ok(Finding::new(
        judge(&per_pair, all, identities.len(), separate),
        [
            Figure::new("connections to one port", "", all),
            Figure::new("ports of a client", "", usize::from(PORTS)),
            Figure::new("connections per pair of addresses", "", per_pair),
            Figure::new("different identities", "", identities.len()),
            Figure::new("connections that deliver", "", separate),
        ],
    ))
}

/// Opens connections from this address until there is no port left.
fn open_all(listener: &TcpListener, from: Ipv4Addr) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    // More than one per port can't be; the bound ends a loop that is wrong.
    while connections.len() <= usize::from(PORTS) {
        let client = idle::socket()?;
        idle::restrict_ports(&client, PORTS)?;
        match idle::connect(client, listener, from) {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                let code = idle::errno(&error);
                ensure!(code == Some(Errno::EADDRNOTAVAIL), error);
                break;
            }
        }
    }
    Ok(connections)
}

/// Sends a different number over each connection, and returns how many of the
/// server's sockets receive that of their client.
fn separate(connections: &mut [Connection]) -> Result<usize> {
    for (number, (client, _)) in connections.iter_mut().enumerate() {
        client.write_all(&number.to_ne_bytes())?;
    }
    let mut separate = 0;
    for (number, (_, server)) in connections.iter_mut().enumerate() {
        server.set_read_timeout(Some(PATIENCE))?;
        let mut received = [0; size_of::<usize>()];
        server.read_exact(&mut received)?;
        separate += usize::from(received == number.to_ne_bytes());
    }
    Ok(separate)
}

/// Judges the number of connections per pair of addresses, and how many of all
/// have an identity and a server's socket of their own.
fn judge(
    per_pair: &Sample,
    all: usize,
    identities: usize,
    separate: usize,
) -> Answer {
    let is_as_said = per_pair.min() >= f64::from(EXPECTED)
        && per_pair.max() <= f64::from(PORTS)
        && [identities, separate] == [all; 2];
    Answer::from_bool(is_as_said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_addresses_must_have_the_whole_range() {
        let answer = |per_pair: &[f64], identities, separate| {
            let per_pair = Sample::new(per_pair.to_vec());
            judge(&per_pair, 300, identities, separate)
        };
        assert_eq!(answer(&[50.0, 49.0], 300, 300), Answer::True);
        assert_eq!(answer(&[50.0, 0.0], 300, 300), Answer::False);
        assert_eq!(answer(&[50.0, 51.0], 300, 300), Answer::False);
        assert_eq!(answer(&[50.0, 50.0], 299, 300), Answer::False);
        assert_eq!(answer(&[50.0, 50.0], 300, 299), Answer::False);
    }
}
