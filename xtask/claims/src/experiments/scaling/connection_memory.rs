//! The buffers of a socket are limits: the kernel allocates memory for the data
//! that is in them, and an idle connection has none.

use anyhow::{Result, ensure};
use nix::sys::socket::{getsockopt, sockopt};

use super::idle;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "connection-memory",
    claim: "An idle TCP connection occupies memory of the size of its send and \
            receive buffers.",
    section: "circulates",
    criterion: "False if an idle connection adds less than a quarter of the \
                sizes of its ends' buffers to the memory of the kernel and of \
                the process. True if it adds at least the half. Batches of 500 \
                connections are measured.",
    if_false: History::NeverTrue,
    sources: &["tcp(7)", "socket(7), SO_RCVBUF and SO_SNDBUF", "proc(5)"],
    explanation: "SO_SNDBUF and SO_RCVBUF limit the data that may wait in the \
                  kernel. Its memory is allocated when the data comes and is \
                  freed when it is read. An idle connection occupies objects \
                  only: the TCP socket, its inode, the open file and some \
                  smaller ones, a few KiB at each end.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let listener = net::listener()?;
    let (memory, connections) = idle::measure(&listener, effort.pick(9, 3))?;
    let mut sizes = 0;
    let (client, server) = &connections[0];
    for end in [client, server] {
        sizes += getsockopt(end, sockopt::SndBuf)?;
        sizes += getsockopt(end, sockopt::RcvBuf)?;
    }
    ensure!(sizes > 0, "the sockets have no buffers");
    let sizes = sizes as f64 / 1024.0;
    let parts = memory.kernel.values().iter().zip(memory.user.values());
    let parts = parts.zip(memory.buffers.values());
    let total = parts.map(|((kernel, user), data)| kernel + user + data);
    let total = Sample::new(total.collect());
    Ok(Finding::new(
        judge(&total, sizes),
        [
            Figure::new("an idle connection, both ends", "KiB", total),
            Figure::new("objects of the kernel", "KiB", memory.kernel),
            Figure::new("data in buffers", "KiB", memory.buffers),
            Figure::new("memory of the process", "KiB", memory.user),
            Figure::new("sizes of the four buffers", "KiB", sizes),
            Figure::new("connections at the end", "", connections.len()),
        ],
    ))
}

/// Judges the memory of a connection by the sizes of its buffers.
fn judge(total: &Sample, sizes: f64) -> Answer {
    if total.is_below(sizes / 4.0) == Answer::True {
        Answer::False
    } else if total.is_below(sizes / 2.0) == Answer::False {
        Answer::True
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_less_than_the_buffers_makes_it_false() {
        let answer = |total: f64| judge(&Sample::from(total), 1_000.0);
        assert_eq!(answer(249.0), Answer::False);
        assert_eq!(answer(400.0), Answer::Undecided);
        assert_eq!(answer(500.0), Answer::True);
    }
}
