//! The contents of a packet: its sender, its TCP header and its payload.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{NetHeaders, PacketHeaders, TcpHeader, TransportHeader};

use super::capture::Frame;

/// A side of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// A packet of the conversation.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Time since the epoch.
    pub at: Duration,
    pub from: Side,
    /// None for a datagram.
    pub tcp: Option<TcpHeader>,
    pub payload: Vec<u8>,
}

/// The addresses of both sides.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

impl Packet {
    /// Parses a frame. Returns None if it is truncated, invalid, or not part of
    /// this conversation.
    pub fn parse(frame: &Frame, ends: &Ends) -> Option<Self> {
        let headers = PacketHeaders::from_ethernet_slice(&frame.bytes).ok()?;
        let (source, destination) = addresses(headers.net?)?;
        let (ports, tcp) = match headers.transport? {
            TransportHeader::Tcp(tcp) => {
                ([tcp.source_port, tcp.destination_port], Some(tcp))
            }
            TransportHeader::Udp(udp) => {
                ([udp.source_port, udp.destination_port], None)
            }
            _ => return None,
        };
        let source = SocketAddr::new(source, ports[0]);
        let destination = SocketAddr::new(destination, ports[1]);
        let from = match (source, destination) {
            pair if pair == (ends.client, ends.server) => Side::Client,
            pair if pair == (ends.server, ends.client) => Side::Server,
            _ => return None,
        };
        let payload = headers.payload.slice().to_vec();
        Some(Self { at: frame.at, from, tcp, payload })
    }

    pub fn is_syn(&self) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| tcp.syn)
    }

    pub fn is_fin(&self) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| tcp.fin)
    }

    pub fn is_reset(&self) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| tcp.rst)
    }

    /// Returns the number of sequence numbers that it uses: one per byte, SYN
    /// and FIN.
    pub fn consumes(&self) -> u32 {
        let length = self.payload.len() as u32;
        length + u32::from(self.is_syn()) + u32::from(self.is_fin())
    }
}

fn addresses(net: NetHeaders) -> Option<(IpAddr, IpAddr)> {
    match net {
        NetHeaders::Ipv4(header, _) => {
            Some((header.source.into(), header.destination.into()))
        }
        NetHeaders::Ipv6(header, _) => {
            Some((header.source.into(), header.destination.into()))
        }
        NetHeaders::Arp(_) => None,
    }
}
