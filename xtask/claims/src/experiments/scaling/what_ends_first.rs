//! A server's connections end at the least of three limits: descriptors, memory
//! and ports.

use std::net::Ipv4Addr;

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::idle;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{memory, net};

pub const CLAIM: Claim = Claim {
    id: "descriptors-end-first",
    claim: "The limit on descriptors ends a server's number of connections \
            before the memory does.",
    section: "How a server serves more",
    criterion: "True if this process's limit on descriptors is below both the \
                number of idle connections whose server ends fit into the \
                available memory, and the number of client addresses times \
                ports. False otherwise.",
    if_false: History::NeverTrue,
    sources: &["getrlimit(2), RLIMIT_NOFILE", "ip(7)", "proc(5)"],
    explanation: "Each accepted socket is a descriptor, and the limit per \
                  process is a setting: some thousands or a million, often \
                  far below what the memory allows. accept fails with EMFILE \
                  there. When the limit is raised, memory is next. Ports don't \
                  end the server, because all connections use its one port.",
    run,
    file: file!(),
};

/// The limit on descriptors under which EMFILE is looked for.
const LOW: u64 = 200;

/// The numbers of connections at which something ends.
#[derive(Clone, Copy, Debug)]
struct Limits {
    descriptors: f64,
    memory: f64,
    address_pairs: f64,
}

fn run(effort: Effort) -> Result<Finding> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let available = memory::of_machine("MemAvailable")?;
    let listener = net::listener()?;
    let (memory, connections) = idle::measure(&listener, effort.pick(9, 3))?;
    let per_end = memory.kernel.median() / 2.0;
    ensure!(per_end > 0.0, "a connection adds no memory");
    drop(connections);
    let (first, last) = idle::client_ports()?;
    let ports = f64::from(last) - f64::from(first) + 1.0;
    let limits = Limits {
        descriptors: soft as f64,
        memory: available / per_end,
        // The unicast addresses of IPv4: those below 224.0.0.0.
        address_pairs: 224.0 * 2_f64.powi(24) * ports,
    };
    setrlimit(Resource::RLIMIT_NOFILE, LOW, hard)?;
    let opened = open_until_emfile()?;
    let figures = [
        Figure::new(
            "connections until descriptors end",
            "",
            limits.descriptors,
        ),
        Figure::new("connections until memory ends", "", limits.memory),
        Figure::new("client addresses times ports", "", limits.address_pairs),
        Figure::new("client ports per address", "", ports),
        Figure::new("memory per server end", "KiB", per_end),
        Figure::new("sockets at EMFILE with a limit of 200", "", opened),
    ];
    Ok(Finding::new(judge(limits), figures))
}

/// Opens connections until a call fails with EMFILE, and returns the number of
/// sockets then.
fn open_until_emfile() -> Result<usize> {
    let listener = net::listener()?;
    let mut connections = Vec::new();
    while connections.len() < LOW as usize {
        match idle::open(&listener, Ipv4Addr::LOCALHOST) {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                ensure!(idle::errno(&error) == Some(Errno::EMFILE), error);
                return Ok(2 * connections.len() + 1);
            }
        }
    }
    bail!("EMFILE didn't come")
}

fn judge(limits: Limits) -> Answer {
    let others = limits.memory.min(limits.address_pairs);
    Answer::from_bool(limits.descriptors < others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_ends_first() {
        let limits =
            Limits { descriptors: 2e4, memory: 6e6, address_pairs: 1e14 };
        assert_eq!(judge(limits), Answer::True);
        assert_eq!(judge(Limits { memory: 1e4, ..limits }), Answer::False);
        assert_eq!(judge(Limits { descriptors: 1e7, ..limits }), Answer::False);
        assert_eq!(
            judge(Limits { address_pairs: 1e3, ..limits }),
            Answer::False
        );
    }
}
