//! UDP loses datagrams even on loopback, where no network can lose them: those
//! that arrive while the receive buffer is full.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt,
};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "datagram-loss",
    claim: "A datagram socket may lose data, and its sender isn't told.",
    section: "Introduction to sockets, datagram sockets",
    criterion: "A sender on the same machine sends while the receiver receives \
                nothing, and each send succeeds. True if datagrams are missing \
                in each round, and the kernel counted them as dropped \
                (SO_RXQ_OVFL). False if all arrive in each round.",
    if_false: History::NeverTrue,
    sources: &["udp(7)", "socket(7), SO_RXQ_OVFL", "RFC 8085, section 3.3"],
    explanation: "UDP has no flow control: the sender doesn't learn how much \
                  space the receive buffer has. The kernel drops a datagram \
                  that arrives while the buffer is full. The send succeeds \
                  nevertheless, because success means only that the datagram \
                  was passed to the network.",
    run,
    file: file!(),
};

/// Datagrams that are sent before the first recv, and their size in bytes.
/// Together they are larger than any usual receive buffer.
const COUNT: usize = 2_000;
const SIZE: usize = 1024;

/// The size of the receive buffer that is asked for, in bytes.
const BUFFER: usize = 128 * 1024;

fn run(effort: Effort) -> Result<Finding> {
    let mut losses = Vec::new();
    for _ in 0..effort.pick(20, 2) {
        losses.push(dropped()? as f64);
    }
    let losses = Sample::new(losses);
    Ok(Finding::new(
        judge(&losses),
        [
            Figure::new("datagrams dropped", "", losses),
            Figure::new("datagrams sent", "", COUNT),
        ],
    ))
}

/// Fills the receive buffer of a new socket beyond its size. Returns the number
/// of datagrams that the kernel dropped.
fn dropped() -> Result<usize> {
    let (sender, receiver) = net::datagram_sockets()?;
    setsockopt(&receiver, sockopt::RcvBuf, &BUFFER).context("SO_RCVBUF")?;
    setsockopt(&receiver, sockopt::RxqOvfl, &1).context("SO_RXQ_OVFL")?;
    for _ in 0..COUNT {
        let sent = sender.send(&[b'x'; SIZE]).context("send")?;
        ensure!(sent == SIZE, "a short send of {sent} bytes");
    }
    let mut received = 0;
    while receive(&receiver, MsgFlags::MSG_DONTWAIT)?.is_some() {
        received += 1;
    }
    // A datagram comes with the number of those dropped before it. Drops after
    // the last one in the buffer come with this one.
    sender.send(b"x").context("send")?;
    let dropped = receive(&receiver, MsgFlags::empty())?;
    let dropped = dropped.context("no datagram after the loss")?;
    ensure!(
        received + dropped == COUNT,
        "{received} received and {dropped} dropped of {COUNT}"
    );
    Ok(dropped)
}

/// Receives a datagram. Returns the number of datagrams that had been dropped
/// when it arrived, or None if no datagram waits.
fn receive(receiver: &UdpSocket, flags: MsgFlags) -> Result<Option<usize>> {
    let mut buffer = [0; SIZE];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let mut control = cmsg_space!(u32);
    let fd = receiver.as_raw_fd();
    let message = recvmsg::<()>(fd, &mut parts, Some(&mut control), flags);
    let message = match message {
        Err(Errno::EAGAIN) => return Ok(None),
        other => other.context("recvmsg")?,
    };
    let dropped = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::RxqOvfl(dropped) => Some(dropped as usize),
        _ => None,
    });
    // The kernel leaves the number out while it is 0.
    Ok(Some(dropped.unwrap_or(0)))
}

fn judge(losses: &Sample) -> Answer {
    if losses.min() > 0.0 {
        Answer::True
    } else if losses.max() == 0.0 {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_in_each_round_makes_it_true() {
        let answer = |losses: &[f64]| judge(&Sample::new(losses.to_vec()));
        assert_eq!(answer(&[900.0, 1_000.0]), Answer::True);
        assert_eq!(answer(&[0.0, 0.0]), Answer::False);
        assert_eq!(answer(&[0.0, 900.0]), Answer::Undecided);
    }
}
