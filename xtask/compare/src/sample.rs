//! Invented results of a full run, for tests.

use super::remark::Remark;
use super::results::{Figures, Group, Outcome, Results, Run, Server};
use super::workload::{self, Load, Workload};

/// Name, µs of processor time per request, threads with `n` connections, KiB
/// per connection in the processes.
type Sample = (&'static str, f64, fn(usize) -> usize, f64);

const SERVERS: [Sample; 16] = [
    ("blocking", 2.9, |_| 1, 0.0),
    ("nonblocking", 4.4, |_| 1, 0.22),
    ("multiplexing-select", 3.9, |_| 1, 0.24),
    ("multiplexing-poll", 3.7, |_| 1, 0.24),
    ("multiplexing-epoll/level", 3.35, |_| 1, 0.23),
    ("multiplexing-epoll/edge", 3.3, |_| 1, 0.23),
    ("multiplexing-epoll/oneshot", 3.9, |_| 1, 0.23),
    ("signal-driven", 5.6, |_| 1, 0.31),
    ("async-io/io-uring", 2.85, |_| 1, 0.26),
    ("async-io/posix-aio", 21.0, |_| 21, 0.9),
    ("process-per-connection", 7.9, |n| n + 1, 61.0),
    ("thread-per-connection", 7.1, |n| n + 1, 9.4),
    ("task-per-connection", 4.6, |_| 2, 0.71),
    ("loop-per-core", 3.6, |_| 2, 0.25),
    ("redis-server", 4.5, |_| 5, 1.6),
    ("bare-loop", 2.8, |_| 1, 0.05),
];

/// The most requests per second that the load generator sends.
const GENERATOR: f64 = 300_000.0;

/// Makes a full run: every workload three times on every server.
pub fn full() -> Results {
    let workloads = workload::all().expect("workloads.toml is sound");
    let mut results = Results { workloads, ..skeleton() };
    for workload in results.workloads.clone() {
        for (at, (server, ..)) in SERVERS.iter().enumerate() {
            for number in 1..=3 {
                results.runs.push(Run {
                    workload: workload.name.clone(),
                    server: (*server).to_owned(),
                    number,
                    outcome: outcome(&workload, at, number),
                });
            }
        }
    }
    results
}

/// Makes a default run: only the quick workloads.
pub fn quick() -> Results {
    let mut results = full();
    results.workloads.retain(|workload| workload.quick);
    let names: Vec<_> =
        results.workloads.iter().map(|w| w.name.clone()).collect();
    results.runs.retain(|run| names.contains(&run.workload));
    results
}

/// Makes results from rows of workload, server, and processor time per request
/// in each run.
pub fn of_costs(rows: &[(&str, &str, &[f64])]) -> Results {
    let workloads = workload::all().expect("workloads.toml is sound");
    let mut results = Results { workloads, ..Results::default() };
    for (workload, server, values) in rows {
        if !results.servers.iter().any(|known| known.title == *server) {
            results.servers.push(Server {
                title: (*server).to_owned(),
                summary: String::new(),
                group: group(server, 1),
            });
        }
        for (at, cpu) in values.iter().enumerate() {
            let figures = Figures { cpu: *cpu, ..Figures::default() };
            results.runs.push(Run {
                workload: (*workload).to_owned(),
                server: (*server).to_owned(),
                number: at + 1,
                outcome: Outcome::Measured(figures),
            });
        }
    }
    results
}

fn skeleton() -> Results {
    let environment = [
        ("commit", "e02e18b, no changes"),
        ("kernel", "Linux 6.18.5 x86_64"),
        ("processor", "AMD EPYC 7763, 2 of 2 processors"),
        ("memory", "7.8 GiB"),
        ("net.core.somaxconn", "4096"),
        ("RLIMIT_NOFILE", "1,048,576"),
        ("redis-server", "7.0.15"),
        ("command", "cargo xtask compare --full"),
        ("multiplexing-epoll/edge", "multiplexing-epoll --trigger edge"),
    ];
    let environment = environment.map(|(a, b)| (a.to_owned(), b.to_owned()));
    let servers = SERVERS.iter().map(|(title, _, threads, ..)| Server {
        title: (*title).to_owned(),
        summary: "a server".to_owned(),
        group: group(title, threads(50)),
    });
    Results {
        environment: environment.to_vec(),
        servers: servers.collect(),
        ..Results::default()
    }
}

fn group(server: &str, threads: usize) -> Group {
    match (server, threads) {
        ("redis-server" | "bare-loop", _) => Group::Yardstick,
        (_, 1) => Group::OneThread,
        _ => Group::ManyThreads,
    }
}

fn outcome(workload: &Workload, server: usize, number: usize) -> Outcome {
    let cannot =
        |why: &str| Outcome::Cannot { why: why.to_owned(), held: None };
    let udp = workload.load == Load::Datagrams;
    match SERVERS[server].0 {
        "blocking" if workload.held() > 1 && workload.load != Load::Short => {
            cannot("serves one client at a time")
        }
        "multiplexing-select" if workload.held() >= 10_000 => Outcome::full(
            1_018,
            "rejected: its descriptor, 1024, is beyond FD_SETSIZE",
        ),
        "async-io/posix-aio" | "redis-server" if udp => {
            cannot("doesn't serve udp")
        }
        "signal-driven" if workload.name == "echo-16k" => {
            let why = "a wrong reply: <script>alert(1)</script> & more";
            Outcome::Failed(why.to_owned())
        }
        _ => Outcome::Measured(figures(workload, server, number)),
    }
}

/// Invents figures: a request costs the server's own time, and more for each
/// idle connection. Runs differ by some percent, in different ways per server.
fn figures(workload: &Workload, server: usize, number: usize) -> Figures {
    let (name, base, threads, process) = SERVERS[server];
    let noise = 1.0 + 0.004 * ((server * 7 + number * 5) % 9) as f64;
    let cpu = noise * base * (1.0 + workload.idle as f64 / 2_000.0);
    let due = workload.rate.map(f64::from);
    let rate = match due {
        Some(due) if name == "async-io/posix-aio" => due * 0.9,
        Some(due) => due,
        None => (1e6 / cpu).min(GENERATOR),
    };
    let remark = match workload.rate {
        Some(due) if rate < f64::from(due) => {
            Some(Remark::Behind { rate, due })
        }
        None if rate == GENERATOR => Some(Remark::Saturated),
        _ => None,
    };
    let p50 = 1e6 / rate * workload.connections.min(50) as f64;
    let threads = threads(workload.connections);
    let kernel = if threads > 1 { 57.0 } else { 9.6 * noise };
    let has_idle = workload.idle > 0;
    Figures {
        seconds: 2.0,
        requests: (rate * 2.0) as u64,
        rate,
        p50,
        p90: p50 * 1.3,
        p99: p50 * (1.8 + 0.1 * server as f64),
        p999: p50 * 6.0 * noise,
        cpu,
        alone: None,
        user: Some(cpu * 0.2),
        system: Some(cpu * 0.8),
        switches: if threads > 1 { 1.02 } else { 0.021 },
        memory: has_idle.then_some(process * noise),
        kernel: has_idle.then_some(kernel),
        threads,
        processes: if name == "process-per-connection" { threads } else { 1 },
        client: rate / GENERATOR,
        connections: workload.held(),
        remarks: remark.into_iter().collect(),
    }
}
