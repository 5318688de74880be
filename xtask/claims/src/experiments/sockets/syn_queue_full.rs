//! A SYN queue is full of handshakes that wait for their third packet, as in a
//! SYN flood. SYN cookies let further clients connect.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libc::BPF_RET;
use socket2::{Domain, SockFilter, Socket, Type};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{namespace, net, tcp};

pub const CLAIM: Claim = Claim {
    id: "syn-queue-full",
    claim: "No client can connect while the SYN queue of a server is full.",
    section: "circulates",
    criterion: "A listener gets more SYNs than its SYN queue holds, from \
                clients that never send the third packet, with \
                net.ipv4.tcp_syncookies set to 0 and to 1. True if the next \
                connect doesn't succeed within 300 ms in both cases, false if \
                it succeeds in both. It depends if it succeeds in one only.",
    if_false: History::NeverTrue,
    sources: &[
        "tcp(7), tcp_syncookies",
        "RFC 4987, section 3.6",
        "net/ipv4/tcp_input.c, tcp_conn_request",
    ],
    explanation: "Without SYN cookies, Linux drops a SYN that finds the queue \
                  full. With them, which is the default, it stores nothing and \
                  encodes the connection in the sequence number of its \
                  SYN-ACK. The client's ACK returns this number, and the \
                  kernel makes the connection from it.",
    run,
    file: file!(),
};

/// The backlog of the listener, which limits the SYN queue too, and the number
/// of handshakes that are not completed.
const BACKLOG: usize = 4;
const HANDSHAKES: usize = 4 * BACKLOG;

/// The time after which a connect counts as not answered. A handshake on
/// loopback requires less than 1 ms, a repeated SYN 1 s.
const UNANSWERED: Duration = Duration::from_millis(300);

/// The state SYN_RECV in /proc/net/tcp (include/net/tcp_states.h).
const SYN_RECV: &str = "03";

fn run(_: Effort) -> Result<Finding> {
    // The setting is of the network namespace.
    namespace::enter_private_network()?;
    let (without, queued) = connects(0)?;
    let (with, _) = connects(1)?;
    Ok(Finding::new(
        judge(without, with),
        [
            Figure::new(
                "connects without SYN cookies",
                "",
                usize::from(without),
            ),
            Figure::new("connects with SYN cookies", "", usize::from(with)),
            Figure::new("handshakes in the full SYN queue", "", queued),
            Figure::new("backlog", "", BACKLOG),
        ],
    ))
}

/// Fills the SYN queue of a new listener. Returns whether the next client
/// connects, and the length of the queue before.
fn connects(syn_cookies: u32) -> Result<(bool, usize)> {
    namespace::set_sysctl("net.ipv4.tcp_syncookies", syn_cookies)?;
    let listener = net::listener_with_backlog(BACKLOG as i32)?;
    let address = listener.local_addr()?;
    let clients = (0..HANDSHAKES).map(|_| start_handshake(address));
    let _clients = clients.collect::<Result<Vec<_>>>()?;
    // Newer kernels put one more into the queue: the comparison is > instead of
    // >= (include/net/inet_connection_sock.h, inet_csk_reqsk_queue_is_full).
    tcp::wait_until("the SYN queue is full", || {
        Ok(handshakes(address)? >= BACKLOG)
    })?;
    let queued = handshakes(address)?;
    ensure!(queued < HANDSHAKES, "the SYN queue holds {queued}");
    match TcpStream::connect_timeout(&address, UNANSWERED) {
        Ok(_) => Ok((true, queued)),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Ok((false, queued))
        }
        Err(error) => Err(error).context("connect"),
    }
}

/// Sends a SYN from a socket that drops the SYN-ACK, so that the handshake goes
/// no further.
fn start_handshake(address: SocketAddr) -> Result<Socket> {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let drop_all = [SockFilter::new(BPF_RET as u16, 0, 0, 0)];
    client.attach_filter(&drop_all).context("SO_ATTACH_FILTER")?;
    client.set_nonblocking(true)?;
    match client.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            Ok(client)
        }
        other => bail!("connect without a SYN-ACK: {other:?}"),
    }
}

/// Returns the number of handshakes of a listener that wait for an ACK.
fn handshakes(address: SocketAddr) -> Result<usize> {
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp")?;
    let lines = table.lines().filter(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(1).is_some_and(|local| local.ends_with(&port))
            && fields.nth(1) == Some(SYN_RECV)
    });
    Ok(lines.count())
}

/// Judges whether a client connects without and with SYN cookies.
fn judge(without: bool, with: bool) -> Answer {
    match (without, with) {
        (false, false) => Answer::True,
        (true, true) => Answer::False,
        _ => Answer::Depends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_syn_cookies() {
        assert_eq!(judge(false, false), Answer::True);
        assert_eq!(judge(true, true), Answer::False);
        assert_eq!(judge(false, true), Answer::Depends);
    }
}
