//! The number of machines for 100 million clients that are online, from the
//! memory of an idle connection and the processor time of a request.

use std::io::{Read as _, Write as _};
use std::thread;

use anyhow::{Result, ensure};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use super::idle::{self, Connection};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, memory, net};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "hundred-million-clients",
    claim: "100 million clients that are online need 100,000 servers.",
    section: "How a server serves more, C10K",
    criterion: "Machines like this one are counted, with half of their memory \
                and processor time for connections, 1 KiB of the server's own \
                memory per client, and one small request per client and \
                minute. True if 100,000 are needed or more, false if below \
                10,000 are.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "tcp(7)", "clock_gettime(2)"],
    explanation: "100,000 servers for 100 million clients are 1,000 clients \
                  per server. With epoll an idle client costs memory only, a \
                  few KiB, and a request some microseconds. A real service \
                  also encrypts and does work per request, and needs machines \
                  for that, but not for keeping its clients online.",
    run,
    file: file!(),
};

const CLIENTS: f64 = 1e8;
/// The server's own memory per client in KiB: an assumption.
const STATE: f64 = 1.0;
/// The time between two requests of a client in µs: an assumption.
const INTERVAL: f64 = 60e6;
/// The size of a request and of its response in bytes.
const LENGTH: usize = 64;
/// The number of clients that have sent a request at the same time.
const ACTIVE: usize = 200;

/// The resources of a machine, of which half are for connections.
#[derive(Clone, Copy, Debug)]
struct Machine {
    memory: f64,
    processors: f64,
}

fn run(effort: Effort) -> Result<Finding> {
    let listener = net::listener()?;
    let (memory, mut connections) =
        idle::measure(&listener, effort.pick(9, 3))?;
    let (epoll, registration) = register(&connections)?;
    let per_client = memory.kernel.median() / 2.0 + registration + STATE;
    let request = Sample::collect(effort.pick(21, 5), || {
        request_micros(&epoll, &mut connections)
    })?;
    let machine = Machine {
        memory: memory::of_machine("MemTotal")?,
        processors: thread::available_parallelism()?.get() as f64,
    };
    let machines = request.values().iter();
    let machines =
        machines.map(|time| machines_for(machine, per_client, *time));
    let machines = Sample::new(machines.collect());
    Ok(Finding::new(
        judge(&machines),
        [
            Figure::new("machines for 100 million clients", "", machines),
            Figure::new("memory per client", "KiB", per_client),
            Figure::new("of that, epoll's registration", "KiB", registration),
            Figure::new("processor time per request", "µs", request),
            Figure::new("memory of a machine", "KiB", machine.memory),
            Figure::new("processors of a machine", "", machine.processors),
        ],
    ))
}

/// Registers the servers' ends with epoll, and returns by how many KiB each of
/// them increases the kernel's memory.
fn register(connections: &[Connection]) -> Result<(Epoll, f64)> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let before = memory::of_machine("Slab")?;
    for (key, (_, server)) in connections.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, key as u64);
        epoll.add(server, event)?;
    }
    let added = memory::of_machine("Slab")? - before;
    Ok((epoll, added.max(0.0) / connections.len() as f64))
}

/// Lets some clients send a request, and returns the server's processor time
/// for one of them: epoll_wait's share, recv and send. On loopback, send also
/// delivers to the client, which a network device would not do.
fn request_micros(
    epoll: &Epoll,
    connections: &mut [Connection],
) -> Result<f64> {
    let step = connections.len() / ACTIVE;
    let mut active = connections.iter_mut().step_by(step).take(ACTIVE);
    active.try_for_each(|(client, _)| client.write_all(&[1; LENGTH]))?;
    let start = clock::thread_cpu_time()?;
    let mut events = [EpollEvent::empty(); 64];
    let mut served = 0;
    while served < ACTIVE {
        let count = epoll.wait(&mut events, EpollTimeout::from(10_000_u16))?;
        ensure!(count > 0, "only {served} of {ACTIVE} requests arrived");
        for event in &events[..count] {
            let (_, server) = &mut connections[event.data() as usize];
            let mut request = [0; LENGTH];
            server.read_exact(&mut request)?;
            server.write_all(&request)?;
        }
        served += count;
    }
    let elapsed = clock::thread_cpu_time()? - start;
    let mut active = connections.iter_mut().step_by(step).take(ACTIVE);
    active.try_for_each(|(client, _)| client.read_exact(&mut [0; LENGTH]))?;
    Ok(elapsed.as_secs_f64() * 1e6 / ACTIVE as f64)
}

/// Returns the number of machines whose memory and processors suffice.
fn machines_for(machine: Machine, per_client: f64, request: f64) -> f64 {
    let by_memory = machine.memory / 2.0 / per_client;
    let by_time = machine.processors / 2.0 * INTERVAL / request;
    (CLIENTS / by_memory.min(by_time)).ceil()
}

fn judge(machines: &Sample) -> Answer {
    if machines.is_below(10_000.0) == Answer::True {
        Answer::False
    } else if machines.is_below(100_000.0) == Answer::False {
        Answer::True
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { memory: 16e6, processors: 4.0 };

    #[test]
    fn the_scarcer_resource_decides_the_number_of_machines() {
        // 8e6 KiB for clients of 8 KiB; 120e6 µs per minute for 12 µs each.
        assert_eq!(machines_for(MACHINE, 8.0, 12.0), 100.0);
        assert_eq!(machines_for(MACHINE, 8.0, 1_200.0), 1_000.0);
    }

    #[test]
    fn expensive_clients_make_it_true() {
        let answer = |per_client: f64| {
            let machines = machines_for(MACHINE, per_client, 12.0);
            judge(&Sample::from(machines))
        };
        assert_eq!(answer(8.0), Answer::False);
        assert_eq!(answer(1_000.0), Answer::Undecided);
        assert_eq!(answer(10_000.0), Answer::True);
    }
}
