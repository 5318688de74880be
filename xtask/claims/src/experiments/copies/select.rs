//! Data arrives while a thread computes between two calls of select. It stays
//! in the socket: select reports it, and recv copies it.

use std::hint::black_box;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Result, ensure};
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::claim::{Answer, Claim, Effort, Finding, History};
use crate::kit::computing::{self, Buffer, Round};

pub const CLAIM: Claim = Claim {
    id: "copies-select",
    claim: "With select, data stays in the kernel until recv asks for it.",
    section: "I/O multiplexing",
    criterion: "The copy is the first to touch 31 of the buffer's 32 pages of \
                4 KiB, so the thread that copies has 31 page faults. A \
                datagram arrives while the thread computes for 100 ms after a \
                select that found nothing. True if, in more than three \
                quarters of the rounds, the data is not in the buffer before \
                the thread asks, and the recv that follows the next select has \
                at least half of the copy's page faults. False if that is so \
                in at most a quarter of them.",
    if_false: History::NeverTrue,
    sources: &["select(2)", "recv(2)"],
    explanation: "select never receives the address of the program's buffer, \
                  so the kernel can't copy anything into it. It puts the \
                  datagram into the receive queue of the socket. The recv that \
                  asks for the datagram makes the copy, on the thread that \
                  calls it.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let rounds = computing::rounds(effort, round)?;
    Ok(computing::finding(judge(&rounds), &rounds))
}

fn round() -> Result<Round> {
    let (sender, receiver) = computing::sockets()?;
    let mut buffer = Buffer::new()?;
    let (ready, before) = readable(&receiver)?;
    ensure!(ready == 0, "select reported data that was not sent");
    let mut before = before;
    // From here on the compiler must expect that the kernel writes to the set.
    let before = black_box(&mut before);
    let computed = computing::compute(&sender, &buffer, || {
        before.contains(receiver.as_fd())
    })?;
    computed.then_ask(&mut buffer, |buffer| {
        let (ready, _) = readable(&receiver)?;
        ensure!(ready == 1, "select did not report the datagram");
        buffer.receive(&receiver)
    })
}

/// Asks select, without waiting, whether a socket is readable. Returns how many
/// descriptors are, and the set that select has written.
fn readable(socket: &UnixDatagram) -> Result<(i32, FdSet<'_>)> {
    let mut set = FdSet::new();
    set.insert(socket.as_fd());
    let mut now = TimeVal::seconds(0);
    let ready = select(None, &mut set, None, None, &mut now)?;
    Ok((ready, set))
}

fn judge(rounds: &[Round]) -> Answer {
    computing::in_most(rounds, Round::is_copied_in_call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::computing::tests::{by_interrupt, elsewhere, in_call};

    #[test]
    fn a_copy_before_the_recv_makes_it_false() {
        assert_eq!(judge(&[in_call(); 7]), Answer::True);
        assert_eq!(judge(&[elsewhere(); 7]), Answer::False);
        assert_eq!(judge(&[by_interrupt(); 7]), Answer::False);
        assert_eq!(judge(&[in_call(), by_interrupt()]), Answer::Undecided);
    }
}
