//! More connections to one port than there are port numbers, all open at the
//! same time.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{pause, pipe};

use super::{idle, limits};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{child::Child, net};

pub const CLAIM: Claim = Claim {
    id: "connections-per-port",
    claim: "A server's port serves at most 65,535 connections at the same \
            time, because there are no more ports.",
    section: "circulates",
    criterion: "False if eight processes, each from an address of its own, \
                open 70,000 connections to one port that exist at the same \
                time (800 in a short run). True if connect fails with \
                EADDRNOTAVAIL before.",
    if_false: History::NeverTrue,
    sources: &["RFC 9293, section 3.4", "tcp(7)", "ip(7)"],
    explanation: "An accepted socket has the port of the listening one: accept \
                  uses no further port. The connections differ in the client's \
                  address and port, so only the ports per client address are \
                  limited. A server reaches its limit on descriptors first, \
                  which is why several processes share the port here, and then \
                  runs out of memory.",
    run,
    file: file!(),
};

const PROCESSES: usize = 8;

fn run(effort: Effort) -> Result<Finding> {
    let wanted = effort.pick(70_000, 800);
    let each = wanted / PROCESSES;
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?.0;
    let why = format!("{limit} descriptors are too few for {each} connections");
    ensure!(limit > 2 * each as u64 + 50, lab::Unsupported::Tool(why));
    limits::ensure_room()?;
    let listener = net::listener_with_backlog(PROCESSES as i32)?;
    let (receiver, sender) = pipe()?;
    let (mut receiver, mut sender) = (File::from(receiver), File::from(sender));
    let mut children = Vec::new();
    for number in 1..=PROCESSES {
        let from = Ipv4Addr::new(127, 0, 1, number.try_into()?);
        children.push(Child::start(|| {
            let connections = open_all(&listener, from, each);
            // None stands for a failure. The connections stay open meanwhile.
            let count = connections.as_ref().map_or(0, Vec::len) as u32;
            if sender.write_all(&count.to_ne_bytes()).is_ok() {
                pause();
            }
            1
        })?);
    }
    let mut counts = [[0; 4]; PROCESSES];
    receiver.read_exact(counts.as_flattened_mut())?;
    let counts = counts.map(|bytes| u32::from_ne_bytes(bytes) as usize);
    ensure!(!counts.contains(&0), "a process failed");
    let open = counts.iter().sum();
    let port = listener.local_addr()?.port();
    Child::end_all(children);
    Ok(Finding::new(
        judge(open, wanted),
        [
            Figure::new("connections to one port", "", open),
            Figure::new("that port", "", usize::from(port)),
            Figure::new("processes", "", PROCESSES),
        ],
    ))
}

/// Opens connections from this address, or as many as there are ports. Each
/// process accepts as many as it opens, but not only its own.
fn open_all(
    listener: &TcpListener,
    from: Ipv4Addr,
    count: usize,
) -> Result<Vec<idle::Connection>> {
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        match idle::open(listener, from) {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                let code = idle::errno(&error);
                ensure!(code == Some(Errno::EADDRNOTAVAIL), error);
                break;
            }
        }
    }
    Ok(connections)
}

fn judge(open: usize, wanted: usize) -> Answer {
    Answer::from_bool(open < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_number_per_connection_would_make_it_true() {
        assert_eq!(judge(70_000, 70_000), Answer::False);
        assert_eq!(judge(65_535, 70_000), Answer::True);
    }
}
