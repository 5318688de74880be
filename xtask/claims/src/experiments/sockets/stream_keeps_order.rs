//! A stream arrives complete and in order, although the network loses segments:
//! a filter at the receiver drops some of them here.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use libc::{BPF_ABS, BPF_JGE, BPF_JMP, BPF_LD, BPF_RET, BPF_W};
use socket2::{SockFilter, SockRef};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{net, tcp};

pub const CLAIM: Claim = Claim {
    id: "stream-keeps-order",
    claim: "A stream socket loses nothing, repeats nothing and keeps the \
            order.",
    section: "Introduction to sockets, stream sockets",
    criterion: "Random bytes are sent in sends of random sizes, while a filter \
                drops some of the arriving segments. True if the receiver gets \
                the bytes that were sent, each at its place, and then EOF. \
                False if one is missing, added or at another place.",
    if_false: History::NeverTrue,
    sources: &["tcp(7)", "RFC 9293, section 3.4"],
    explanation: "Each segment has the number of its first byte. The receiver \
                  acknowledges what has arrived, and the sender sends the rest \
                  again. The receiver sorts segments by number and discards \
                  bytes that it already has, so the program never notices a \
                  lost segment, except as a delay. If the connection is reset, \
                  bytes that are still on their way are lost.",
    run,
    file: file!(),
};

/// The longest send, and the longest recv.
const LONGEST: usize = 16 * 1024;

/// Bytes between two looks at the number of repeated segments, and the number
/// after which too few segments were dropped.
const PART: usize = 1024 * 1024;
const LIMIT: usize = 64 * PART;

/// The filter drops one of this number of arriving segments.
const DROP_ONE_IN: u32 = 16;

fn run(effort: Effort) -> Result<Finding> {
    let repeated = effort.pick(10, 2);
    let (client, server) = net::connection()?;
    drop_segments(&server)?;
    let (sent, received, repeated) = thread::scope(|scope| {
        let sender = scope.spawn(move || send(client, repeated));
        let received = receive(&server);
        let sender = sender
            .join()
            .map_err(|_| anyhow!("the sending thread panicked"))?;
        let (sent, repeated) = sender?;
        Ok::<_, anyhow::Error>((sent, received?, repeated))
    })?;
    let wrong = wrong_bytes(&sent, &received);
    Ok(Finding::new(
        judge(wrong),
        [
            Figure::new("bytes missing, added or misplaced", "", wrong),
            Figure::new("sent", "KiB", sent.len() / 1024),
            Figure::new("segments sent again", "", repeated),
        ],
    ))
}

/// Makes the kernel drop arriving segments at random (SO_ATTACH_FILTER,
/// socket(7)), as an overloaded router does.
fn drop_segments(socket: &TcpStream) -> Result<()> {
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
    let kept_from = u32::MAX / DROP_ONE_IN;
    let filter = [
        SockFilter::new((BPF_LD | BPF_W | BPF_ABS) as u16, 0, 0, random),
        SockFilter::new((BPF_JMP | BPF_JGE) as u16, 0, 1, kept_from),
        SockFilter::new(BPF_RET as u16, 0, 0, u32::MAX),
        SockFilter::new(BPF_RET as u16, 0, 0, 0),
    ];
    let attached = SockRef::from(socket).attach_filter(&filter);
    attached.context("SO_ATTACH_FILTER")
}

/// Sends random bytes until the kernel has sent this number of segments again,
/// then a FIN. Returns the bytes, and the number of repeated segments.
fn send(mut socket: TcpStream, repeated: usize) -> Result<(Vec<u8>, usize)> {
    let mut random = fastrand::Rng::new();
    let mut sent = Vec::new();
    while (tcp::info(&socket)?.tcpi_total_retrans as usize) < repeated {
        ensure!(sent.len() < LIMIT, "the filter dropped too few segments");
        let mut part = vec![0; PART];
        random.fill(&mut part);
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            let length = random.usize(1..=LONGEST).min(rest.len());
            rest = &rest[socket.write(&rest[..length]).context("send")?..];
        }
        sent.extend_from_slice(&part);
    }
    let repeated = tcp::info(&socket)?.tcpi_total_retrans;
    Ok((sent, repeated as usize))
}

/// Receives until EOF.
fn receive(mut socket: &TcpStream) -> Result<Vec<u8>> {
    let mut random = fastrand::Rng::new();
    let (mut received, mut buffer) = (Vec::new(), [0; LONGEST]);
    loop {
        match socket.read(&mut buffer[..random.usize(1..=LONGEST)]) {
            Ok(0) => return Ok(received),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("recv"),
        }
    }
}

/// Returns the number of places at which the two differ.
fn wrong_bytes(sent: &[u8], received: &[u8]) -> usize {
    let differing = sent.iter().zip(received).filter(|(a, b)| a != b).count();
    differing + sent.len().abs_diff(received.len())
}

fn judge(wrong: usize) -> Answer {
    Answer::from_bool(wrong == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_makes_it_false() {
        assert_eq!(judge(wrong_bytes(b"abc", b"abc")), Answer::True);
        for wrong in [b"ab".as_slice(), b"acb", b"abcc", b""] {
            let answer = judge(wrong_bytes(b"abc", wrong));
            assert_eq!(answer, Answer::False, "{wrong:?}");
        }
    }
}
