//! A stream is bytes: the receiver sees neither where a send ended nor how many
//! sends there were.

use std::io::{Read as _, Write as _};

use anyhow::Result;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::percent;

pub const CLAIM: Claim = Claim {
    id: "stream-boundaries",
    claim: "A stream socket has no record boundaries.",
    section: "Introduction to sockets, stream sockets",
    criterion: "True if one recv returns the bytes of two sends, and the bytes \
                of one send come in two recvs. False if one of the two never \
                happens.",
    if_false: History::NeverTrue,
    sources: &["tcp(7)", "RFC 9293, section 3.8"],
    explanation: "TCP numbers bytes, not messages. A recv returns what is in \
                  the receive buffer, up to the size of its own buffer, so a \
                  program that exchanges messages must mark their ends itself: \
                  by a length, or by a separator such as CRLF.",
    run,
    file: file!(),
};

/// Bytes per send.
const LENGTH: usize = 8;

fn run(effort: Effort) -> Result<Finding> {
    let (mut client, mut server) = net::connection()?;
    let (mut merged, mut split) = (0, 0);
    let rounds = effort.pick(100, 10);
    for _ in 0..rounds {
        client.write_all(&[b'x'; LENGTH])?;
        client.write_all(&[b'y'; LENGTH])?;
        // On loopback both segments are in the receive buffer when the sends
        // have returned.
        let mut both = [0; 3 * LENGTH];
        let received = server.read(&mut both)?;
        merged += usize::from(received == 2 * LENGTH);
        if received < 2 * LENGTH {
            server.read_exact(&mut both[received..2 * LENGTH])?;
        }
        client.write_all(&[b'z'; LENGTH])?;
        let mut half = [0; LENGTH / 2];
        split += usize::from(server.read(&mut half)? == LENGTH / 2);
        server.read_exact(&mut half)?;
    }
    Ok(Finding::new(
        judge(merged, split),
        [
            Figure::new("two sends in one recv", "%", percent(merged, rounds)),
            Figure::new("one send in two recvs", "%", percent(split, rounds)),
        ],
    ))
}

fn judge(merged: usize, split: usize) -> Answer {
    Answer::from_bool(merged > 0 && split > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_that_are_kept_make_it_false() {
        assert_eq!(judge(9, 10), Answer::True);
        assert_eq!(judge(0, 10), Answer::False);
        assert_eq!(judge(10, 0), Answer::False);
    }
}
