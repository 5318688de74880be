//! A datagram that is larger than the buffer of the recv is cut, and the kernel
//! discards the rest.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{MsgFlags, recv, recvmsg};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "datagram-truncated",
    claim: "The next recv returns the rest of a datagram that did not fit in \
            the buffer.",
    section: "circulates",
    criterion: "A datagram and a marker are sent, and the first recv has a \
                smaller buffer than the datagram. True if the next recv \
                returns the rest. False if it returns the marker each time.",
    if_false: History::NeverTrue,
    sources: &["recv(2), MSG_TRUNC", "udp(7)"],
    explanation: "A recv removes the whole datagram from the queue, but copies \
                  only what fits. recvmsg sets MSG_TRUNC in the returned \
                  flags, and recv with the flag MSG_TRUNC returns the real \
                  length. recv without it gives no sign that bytes are \
                  missing.",
    run,
    file: file!(),
};

/// The bytes of the datagram, and those that the buffer has space for.
const WHOLE: &[u8] = b"0123456789abcdef";
const SPACE: usize = 10;

const MARKER: &[u8] = b"marker";

fn run(effort: Effort) -> Result<Finding> {
    let (sender, receiver) = net::datagram_sockets()?;
    let rounds = effort.pick(100, 10);
    let (mut rests, mut flagged) = (0, 0);
    for _ in 0..rounds {
        sender.send(WHOLE).context("send")?;
        sender.send(MARKER).context("send")?;
        flagged += usize::from(receive_part(&receiver)?);
        let mut buffer = [0; 2 * WHOLE.len()];
        let size = receiver.recv(&mut buffer).context("recv")?;
        let next = &buffer[..size];
        let is_rest = next == &WHOLE[SPACE..];
        ensure!(is_rest || next == MARKER, "received {next:?}");
        rests += usize::from(is_rest);
        if is_rest {
            receiver.recv(&mut buffer).context("recv of the marker")?;
        }
    }
    Ok(Finding::new(
        judge(rests),
        [
            Figure::new("rests that the next recv returned", "", rests),
            Figure::new("datagrams that did not fit", "", rounds),
            Figure::new("recvs that reported MSG_TRUNC", "", flagged),
            Figure::new(
                "length by recv with MSG_TRUNC",
                "bytes",
                real_length(&sender, &receiver)?,
            ),
        ],
    ))
}

/// Receives as much as the small buffer has space for. Returns whether the
/// kernel reported that this was not all.
fn receive_part(receiver: &UdpSocket) -> Result<bool> {
    let mut buffer = [0; SPACE];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let fd = receiver.as_raw_fd();
    let message = recvmsg::<()>(fd, &mut parts, None, MsgFlags::empty())
        .context("recvmsg")?;
    let (size, flags) = (message.bytes, message.flags);
    ensure!(buffer[..size] == WHOLE[..SPACE], "received {buffer:?}");
    Ok(flags.contains(MsgFlags::MSG_TRUNC))
}

/// Returns the length of a datagram as a recv reports it that has no space.
fn real_length(sender: &UdpSocket, receiver: &UdpSocket) -> Result<usize> {
    sender.send(WHOLE).context("send")?;
    let fd = receiver.as_raw_fd();
    recv(fd, &mut [], MsgFlags::MSG_TRUNC).context("recv with MSG_TRUNC")
}

fn judge(rests: usize) -> Answer {
    Answer::from_bool(rests > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_that_is_lost_makes_it_false() {
        assert_eq!(judge(0), Answer::False);
        assert_eq!(judge(10), Answer::True);
    }
}
