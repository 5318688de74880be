//! Results as a full run might bring them, for tests.

use super::results::{Figures, Outcome, Results, Run, Server};
use super::workload::{self, Load, Request, Workload};

/// Name, µs of processor time, threads with `n` connections, KiB in the
/// process.
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

/// A full run: every workload three times on every server.
pub fn full() -> Results {
    let workloads = workload::all().unwrap();
    let mut results = Results { workloads, ..skeleton() };
    for workload in results.workloads.clone() {
        for (at, (server, ..)) in SERVERS.iter().enumerate() {
            for number in 1..=3 {
                let outcome = outcome(&workload, at, number);
                let full = matches!(outcome, Outcome::Cannot(_))
                    && *server == "multiplexing-select";
                results.runs.push(Run {
                    workload: workload.name.clone(),
                    server: (*server).to_owned(),
                    number,
                    outcome,
                    ended_at: full.then_some(1_018),
                });
            }
        }
    }
    results
}

/// The default run: the quick workloads only.
pub fn quick() -> Results {
    let mut results = full();
    results.workloads.retain(|workload| workload.quick);
    let names: Vec<_> =
        results.workloads.iter().map(|w| w.name.clone()).collect();
    results.runs.retain(|run| names.contains(&run.workload));
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
        yardstick: matches!(*title, "redis-server" | "bare-loop"),
        one_thread: threads(50) <= 1,
    });
    Results {
        environment: environment.to_vec(),
        servers: servers.collect(),
        traced: Some(Ok(crate::trace::figure::sample::survey())),
        ..Results::default()
    }
}

fn outcome(workload: &Workload, server: usize, number: usize) -> Outcome {
    let name = SERVERS[server].0;
    let udp = workload.load == Load::Datagrams;
    match name {
        "blocking" if workload.held() > 1 && workload.load != Load::Short => {
            Outcome::Cannot("serves one client at a time".to_owned())
        }
        "multiplexing-select" if workload.held() > 10_000 - 1 => {
            let why = "ended at 1,018 clients: FD_SETSIZE";
            Outcome::Cannot(why.to_owned())
        }
        "async-io/posix-aio" | "redis-server" if udp => {
            Outcome::Cannot("serves no datagrams".to_owned())
        }
        "signal-driven" if workload.name == "echo-16k" => {
            let why = "a wrong reply: <script>alert(1)</script> & more";
            Outcome::Failed(why.to_owned())
        }
        _ => Outcome::Measured(figures(workload, server, number)),
    }
}

fn figures(workload: &Workload, server: usize, number: usize) -> Figures {
    let (name, base, threads, process) = SERVERS[server];
    // Runs lie some percent apart, and not the same for all.
    let noise = 1.0 + 0.004 * ((server * 7 + number * 5) % 9) as f64;
    let thousands = workload.held() as f64 / 1_000.0;
    let scan = match name {
        "nonblocking" => 21.0,
        "multiplexing-select" => 6.0,
        "multiplexing-poll" => 9.5,
        _ => 0.02,
    };
    let idle = scan * workload.idle as f64 / 1_000.0 / 5.0;
    let size = match workload.request {
        Request::Echo(bytes) => bytes as f64 / 4_000.0,
        Request::Ping => 0.0,
    };
    let pipeline = match workload.load {
        Load::Closed => workload.pipeline as f64,
        _ => 1.0,
    };
    let short = if workload.load == Load::Short { 22.0 } else { 0.0 };
    let parse = if name == "redis-server" { 0.8 } else { 0.12 };
    let cpu = noise
        * ((base + idle + thousands * 0.03) / pipeline
            + parse * (1.0 - 1.0 / pipeline)
            + size
            + short);
    let alone = if workload.connections == 1 { 4.0 } else { 1.0 };
    let most = 300_000.0 / alone * pipeline.sqrt();
    let due = workload.rate.map_or(most, f64::from);
    // Glibc's threads wait for each other under this load.
    let waits = match (name, workload.load) {
        ("async-io/posix-aio", Load::Open) => 2.6,
        _ => 1.0,
    };
    let rate = (1e6 / cpu / noise / alone / waits).min(due);
    let p50 = match workload.load {
        Load::Open => 40.0 + 9.0 * cpu,
        _ => 1e6 / rate * workload.connections.min(50) as f64,
    };
    let held = workload.held() as f64;
    let threads = threads(workload.connections) as f64;
    let processes =
        if name == "process-per-connection" { threads } else { 1.0 };
    Figures {
        seconds: 2.0,
        requests: rate * 2.0,
        rate,
        p50,
        p90: p50 * 1.3,
        p99: p50 * (1.8 + 0.1 * server as f64),
        p999: p50 * 6.0 * noise,
        cpu,
        alone: None,
        user: Some(cpu * 0.2),
        system: Some(cpu * 0.8),
        switches: if threads > 1.0 { 1.02 } else { 0.021 },
        memory: (workload.idle > 0).then_some(process * noise),
        kernel: (workload.idle > 0).then_some(match name {
            "process-per-connection" => 57.0,
            "thread-per-connection" => 21.5,
            _ => 9.6 * noise,
        }),
        threads,
        processes,
        client: (rate / 260_000.0).min(1.0),
        connections: held,
        remark: remark(rate, most, workload),
    }
}

fn remark(rate: f64, most: f64, workload: &Workload) -> Option<String> {
    let due = workload.rate.map(f64::from);
    match due {
        Some(due) if rate < due => {
            Some(format!("only {rate:.0} of {due} a second"))
        }
        None if rate >= most => Some("load generator saturated".to_owned()),
        _ => None,
    }
}
