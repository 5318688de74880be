//! Picks the workloads of a chart or a ranking by their properties, not by
//! their names.

use load::request::Request;

use crate::results::{Finding, Results};
use crate::spread::Spread;
use crate::workload::{Load, Workload};

/// The number of connections in most comparisons.
const USUAL: usize = 50;

fn closed_ping(workload: &&Workload) -> bool {
    workload.load == Load::Closed && workload.request == Request::Ping
}

/// Returns ping-pong without idle connections, by number of connections.
pub fn by_connections(all: &[Workload]) -> Vec<&Workload> {
    let mut found: Vec<_> = all
        .iter()
        .filter(closed_ping)
        .filter(|w| w.pipeline == 1 && w.idle == 0)
        .collect();
    found.sort_by_key(|w| w.connections);
    found
}

/// Returns the representative load: ping-pong with 50 connections, or with the
/// nearest number.
pub fn usual(all: &[Workload]) -> Option<&Workload> {
    let found = by_connections(all).into_iter();
    found.min_by_key(|w| w.connections.abs_diff(USUAL))
}

/// Returns ping-pong by number of idle connections.
pub fn by_idle(all: &[Workload]) -> Vec<&Workload> {
    let ping_pong = all.iter().filter(|w| w.pipeline == 1);
    growing(ping_pong.filter(closed_ping).collect(), |w| w.idle)
}

/// Returns PING loads by number of pipelined requests.
pub fn by_pipeline(all: &[Workload]) -> Vec<&Workload> {
    let without_idle = all.iter().filter(|w| w.idle == 0);
    growing(without_idle.filter(closed_ping).collect(), |w| w.pipeline - 1)
}

/// Keeps the loads that have as many connections as the first load with a
/// `size` above 0, sorted by `size`.
fn growing(
    mut loads: Vec<&Workload>,
    size: fn(&Workload) -> usize,
) -> Vec<&Workload> {
    let grown = loads.iter().find(|it| size(it) > 0);
    let active = grown.map(|it| it.connections);
    loads.retain(|it| Some(it.connections) == active);
    loads.sort_by_key(|it| size(it));
    loads
}

/// Returns the open load, in which requests of one kind are due at fixed times.
pub fn open(all: &[Workload]) -> Option<&Workload> {
    let one_kind = |w: &&Workload| w.load == Load::Open && w.heavy.is_none();
    all.iter().find(one_kind)
}

/// Returns loads in which some requests take time and others wait for them.
pub fn by_heavy(all: &[Workload]) -> Vec<&Workload> {
    all.iter().filter(|workload| workload.heavy.is_some()).collect()
}

/// Returns the usual load, and those in which each request computes, by how
/// long.
pub fn by_work(all: &[Workload]) -> Vec<&Workload> {
    let computing = |w: &&Workload| {
        w.load == Load::Closed && matches!(w.request, Request::Spin(_))
    };
    let mut found: Vec<_> = usual(all).into_iter().collect();
    found.extend(all.iter().filter(computing));
    found.sort_by_key(|workload| work(workload));
    found
}

/// Returns how long each request computes, in microseconds.
pub fn work(workload: &Workload) -> u32 {
    match workload.request {
        Request::Spin(micros) => micros,
        _ => 0,
    }
}

/// Returns the load with the most connections that are active in turn.
pub fn round(all: &[Workload]) -> Option<&Workload> {
    let rounds = all.iter().filter(|w| w.load == Load::Round);
    rounds.max_by_key(|w| w.connections)
}

/// Returns the memory of one more connection in the processes, in the kernel,
/// and in both, from the measured load with the most connections.
pub fn memory(results: &Results, server: &str) -> Option<[Spread; 3]> {
    let mut all: Vec<_> = results.workloads.iter().collect();
    all.sort_by_key(|w| std::cmp::Reverse(w.held()));
    all.into_iter().find_map(|workload| {
        let name = &workload.name;
        Some([
            results.spread(name, server, |f| f.memory)?,
            results.spread(name, server, |f| f.kernel)?,
            results.spread(name, server, |f| Some(f.memory? + f.kernel?))?,
        ])
    })
}

/// Returns the number of connections that a server held in a round: all, or as
/// many as it accepted.
pub fn held(results: &Results, round: &Workload, server: &str) -> Option<f64> {
    let held = match results.row(&round.name, server)? {
        Finding::Measured(runs) => runs.iter().map(|it| it.connections).min(),
        Finding::Cannot { held, .. } => held,
        Finding::Failed(_) => None,
    };
    held.map(|held| held as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn names(workloads: Vec<&Workload>) -> Vec<&str> {
        workloads.into_iter().map(|w| w.name.as_str()).collect()
    }

    #[test]
    fn loads_are_found_by_their_properties() {
        let all = sample::full().workloads;
        assert_eq!(
            names(by_connections(&all)),
            ["ping-1", "ping-50", "ping-1000"]
        );
        assert_eq!(
            names(by_idle(&all)),
            ["ping-50", "idle-500", "idle-1000", "idle-10000"]
        );
        assert_eq!(
            names(by_pipeline(&all)),
            ["ping-50", "pipeline-16", "pipeline-64"]
        );
        assert_eq!(usual(&all).unwrap().name, "ping-50");
        assert_eq!(open(&all).unwrap().name, "latency");
        assert_eq!(names(by_heavy(&all)), ["mixed", "wait"]);
        assert_eq!(names(by_work(&all)), ["ping-50", "spin-20", "spin-200"]);
        assert_eq!(round(&all).unwrap().name, "c10k");
        assert!(by_idle(&[]).is_empty() && by_pipeline(&[]).is_empty());
    }

    #[test]
    fn without_fifty_connections_the_nearest_number_is_taken() {
        let mut all = sample::full().workloads;
        all.retain(|w| w.name == "ping-1" || w.name == "ping-1000");
        assert_eq!(usual(&all).unwrap().name, "ping-1");
        all.retain(|w| w.name == "ping-1000");
        assert_eq!(usual(&all).unwrap().name, "ping-1000");
    }

    #[test]
    fn held_connections_are_counted_up_to_the_limit() {
        let results = sample::full();
        let round = round(&results.workloads).unwrap();
        let held = |server| held(&results, round, server);
        assert_eq!(held("multiplexing-select"), Some(1_018.0));
        assert_eq!(held("multiplexing-poll"), Some(10_000.0));
        assert_eq!(held("blocking"), None);
        assert_eq!(held("unknown"), None);
    }
}
