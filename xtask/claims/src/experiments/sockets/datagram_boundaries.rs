//! A datagram socket keeps the boundaries of messages: one recv returns one
//! datagram, even if several wait and the buffer has space for all of them.

use std::io::ErrorKind;
use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "datagram-boundaries",
    claim: "Each recv on a datagram socket returns exactly one datagram.",
    section: "Introduction to sockets, datagram sockets",
    criterion: "Datagrams of random sizes wait before the first recv, which \
                has space for all of them. True if every recv returns as many \
                bytes as one send had, in the order of the sends. False if a \
                recv returns more or less.",
    if_false: History::NeverTrue,
    sources: &["udp(7)", "RFC 768"],
    explanation: "The kernel queues each UDP datagram as a unit, with its \
                  length and the address of its sender. A recv removes one \
                  from the queue and returns its bytes only. A datagram can be \
                  empty, so a recv that returns 0 is not EOF here.",
    run,
    file: file!(),
};

/// Datagrams that wait in the receive buffer at a time.
const COUNT: usize = 50;

/// The size of the largest datagram. The smallest is empty.
const LARGEST: usize = 500;

fn run(effort: Effort) -> Result<Finding> {
    let (sender, receiver) = net::datagram_sockets()?;
    receiver.set_nonblocking(true)?;
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(100, 10) {
        sent.extend(send(&sender)?);
        received.extend(receive(&receiver)?);
    }
    let bytes = |sizes: &[usize]| sizes.iter().sum::<usize>();
    ensure!(bytes(&sent) == bytes(&received), "the receiver lost bytes");
    Ok(Finding::new(
        judge(&sent, &received),
        [
            Figure::new("recvs that returned bytes", "", received.len()),
            Figure::new("datagrams sent", "", sent.len()),
        ],
    ))
}

/// Sends datagrams, and returns their sizes.
fn send(sender: &UdpSocket) -> Result<Vec<usize>> {
    let mut random = fastrand::Rng::new();
    let sizes: Vec<_> = (0..COUNT).map(|_| random.usize(0..=LARGEST)).collect();
    for &size in &sizes {
        sender.send(&[b'x'; LARGEST][..size]).context("send")?;
    }
    Ok(sizes)
}

/// Receives until nothing is left, and returns what each recv returned.
fn receive(receiver: &UdpSocket) -> Result<Vec<usize>> {
    let mut buffer = [0; COUNT * LARGEST];
    let mut sizes = Vec::new();
    loop {
        match receiver.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(sizes);
            }
            size => sizes.push(size.context("recv")?),
        }
    }
}

fn judge(sent: &[usize], received: &[usize]) -> Answer {
    Answer::from_bool(sent == received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_that_merge_or_split_make_it_false() {
        assert_eq!(judge(&[4, 0, 8], &[4, 0, 8]), Answer::True);
        assert_eq!(judge(&[4, 0, 8], &[12]), Answer::False);
        assert_eq!(judge(&[4, 0, 8], &[4, 0, 5, 3]), Answer::False);
        assert_eq!(judge(&[4, 0, 8], &[8, 0, 4]), Answer::False);
    }
}
