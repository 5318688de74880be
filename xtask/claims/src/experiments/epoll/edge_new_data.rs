//! Each arrival of data is an edge, also if older data is still unread.

use std::io::{Read as _, Write};
use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use nix::sys::epoll::EpollFlags;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::percent;

pub const CLAIM: Claim = Claim {
    id: "edge-new-data",
    claim: "Edge-triggered epoll reports only the change from no data to some \
            data.",
    section: "circulates",
    criterion: "Data is sent, reported and not read; then more is sent, to a \
                TCP socket and to a pipe. True if the second arrival is never \
                reported, false if it always is, for both. Depends if always \
                for one of the two and never for the other.",
    if_false: History::NeverTrue,
    sources: &[
        "epoll(7)",
        "fs/eventpoll.c, ep_poll_callback",
        "fs/pipe.c, pipe_write",
    ],
    explanation: "The file calls epoll back when data arrives. The callback \
                  puts the descriptor on the ready list without asking whether \
                  older data is unread. So an edge is an arrival. A program \
                  must not rely on it to find unread data: if nothing more \
                  arrives, nothing is reported. Pipes of Linux 5.5 to 5.13 \
                  were an exception: a write to a pipe with unread data was no \
                  edge.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let rounds = effort.pick(50, 5);
    let (mut client, mut server) = net::connection()?;
    let (mut reader, mut writer) = std::io::pipe()?;
    let (mut socket, mut pipe) = (0, 0);
    for _ in 0..rounds {
        socket += second_edges(&mut client, &server)?;
        server.read_exact(&mut [0; 2])?;
        pipe += second_edges(&mut writer, &reader)?;
        reader.read_exact(&mut [0; 2])?;
    }
    let percent = |part| percent(part, rounds);
    Ok(Finding::new(
        judge(socket, pipe, rounds),
        [
            Figure::new("second arrivals, TCP", "%", percent(socket)),
            Figure::new("second arrivals, pipe", "%", percent(pipe)),
        ],
    ))
}

/// Sends a byte, which is reported, and a second one without a read between
/// them. Returns the number of events for the second.
fn second_edges(
    sender: &mut impl Write,
    receiver: &impl AsFd,
) -> Result<usize> {
    let epoll = watch::instance([receiver], EpollFlags::EPOLLET)?;
    sender.write_all(b"1")?;
    watch::expect_one(&epoll)?;
    let repeated = watch::reported(&epoll)?;
    ensure!(repeated == 0, "the first byte was reported twice");
    sender.write_all(b"2")?;
    Ok(watch::reported_soon(&epoll)?)
}

/// Judges how many of the rounds reported the second arrival.
fn judge(socket: usize, pipe: usize, rounds: usize) -> Answer {
    match (socket, pipe) {
        (0, 0) => Answer::True,
        (s, p) if s == rounds && p == rounds => Answer::False,
        (s, p) if s.min(p) == 0 && s.max(p) == rounds => Answer::Depends,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_on_unread_data_makes_it_false() {
        assert_eq!(judge(0, 0, 9), Answer::True);
        assert_eq!(judge(9, 9, 9), Answer::False);
        assert_eq!(judge(9, 0, 9), Answer::Depends);
        assert_eq!(judge(5, 9, 9), Answer::Undecided);
    }
}
