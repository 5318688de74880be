//! Reads the state of a connection that the kernel keeps after both programs
//! have closed it.
//!
//! /proc/net/tcp and tcp6 list connections with their state and timer, see
//! proc_net(5). The state is read there, not inferred from the packets.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};

use super::packet::{Ends, Side};

/// The names of the states from 01 on, see include/net/tcp_states.h.
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// One side's socket of a connection, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    pub side: Side,
    pub state: &'static str,
    /// The time until its timer expires, if it has one.
    pub left: Option<Duration>,
}

impl Half {
    pub fn is_waiting(&self) -> bool {
        self.state == STATES[5]
    }
}

/// Looks up the sockets of both sides.
pub fn look(ends: &Ends) -> Result<Vec<Half>> {
    let path = match ends.server {
        SocketAddr::V4(_) => "/proc/net/tcp",
        SocketAddr::V6(_) => "/proc/net/tcp6",
    };
    let table = fs::read_to_string(path).with_context(|| path.to_owned())?;
    Ok(table.lines().filter_map(|line| half(line, ends)).collect())
}

fn half(line: &str, ends: &Ends) -> Option<Half> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let &[_, local, remote, state, _, timer, ..] = fields.as_slice() else {
        return None;
    };
    let (client, server) = (in_proc(ends.client), in_proc(ends.server));
    let side = match (local, remote) {
        pair if pair == (&*client, &*server) => Side::Client,
        pair if pair == (&*server, &*client) => Side::Server,
        _ => return None,
    };
    let number = usize::from_str_radix(state, 16).ok()?;
    let state = STATES.get(number.checked_sub(1)?)?;
    Some(Half { side, state, left: left(timer) })
}

/// Parses `03:000017A0`: the timer, and the ticks until it expires. USER_HZ is
/// 100, see time(7).
fn left(timer: &str) -> Option<Duration> {
    let (kind, ticks) = timer.split_once(':')?;
    if kind == "00" {
        return None;
    }
    let ticks = u64::from_str_radix(ticks, 16).ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Formats an address as /proc does: 32-bit words of the address in network
/// order, printed as numbers in the machine's byte order.
fn in_proc(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4).map(|word| {
        let word = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses lines as in proc_net(5), on a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn lines_are_parsed() {
        let [v4, v6] = ["127.0.0.1", "[::1]"].map(|host| Ends {
            client: format!("{host}:46576").parse().unwrap(),
            server: format!("{host}:7379").parse().unwrap(),
        });
        let one = "00000000000000000000000001000000";
        let v6_line = format!("0: {one}:1CD3 {one}:B5F0 05 0:0 03:00000064");
        let client = "3: 0100007F:B5F0 0100007F:1CD3 06 0:0 03:000017A0";
        let server = "4: 0100007F:1CD3 0100007F:B5F0 08 0:1 00:00000000";
        let half = |line: &str, ends: &Ends| {
            let half = half(line, ends)?;
            let left = half.left.map(|left| left.as_millis());
            Some((half.side, half.state, left))
        };
        let waits = |side, state, left| Some((side, state, left));
        let rows = [
            (client, &v4, waits(Side::Client, "TIME_WAIT", Some(60_480))),
            (server, &v4, waits(Side::Server, "CLOSE_WAIT", None)),
            (&v6_line, &v6, waits(Side::Server, "FIN_WAIT2", Some(1_000))),
            // The listener, another connection, the heading, and invalid lines.
            ("0: 0100007F:1CD3 00000000:0000 0A 0:0 00:0 0", &v4, None),
            ("1: 0100007F:B5F1 0100007F:1CD3 06 0:0 03:0 0", &v4, None),
            ("sl local_address rem_address st tx_queue tr", &v4, None),
            ("3: 0100007F:B5F0 0100007F:1CD3", &v4, None),
            ("3: 0100007F:B5F0 0100007F:1CD3 7F 0:0 03:0", &v4, None),
        ];
        for (line, ends, expected) in rows {
            assert_eq!(half(line, ends), expected, "{line}");
        }
    }
}
