//! The chart of pairs: what policies cost, or how two builds differ.

use compare::pairs::{Pair, Pairs};
use compare::results::Figures;
use compare::spread::Spread;

use crate::chart::{Cell, Chart, ChartRow, Kind};

/// Makes the chart: the ratio of each pair under each load.
pub fn chart(pairs: &Pairs) -> Chart {
    let workloads = &pairs.results.workloads;
    let [other, _] = pairs.other.headings();
    let found: Vec<_> = workloads.iter().map(|it| pairs.of(it)).collect();
    let count = found.first().map_or(0, Vec::len);
    let rows = (0..count).map(|at| {
        let loads: Vec<_> = found.iter().map(|pairs| &pairs[at]).collect();
        let server = loads[0].server;
        ChartRow {
            name: server.to_owned(),
            group: pairs.results.group(server),
            cells: loads.iter().map(|pair| ratio(pair)).collect(),
            extra: loads.iter().flat_map(|pair| costs(pair)).collect(),
            label: None,
            whisker: None,
        }
    });
    let names = workloads.iter().map(|it| it.name.clone());
    let extra = workloads.iter().flat_map(|workload| {
        let name = &workload.name;
        [format!("{name}, µs"), format!("{name}, {other}, µs")]
    });
    Chart {
        id: "pairs",
        title: pairs.other.title(),
        lead: pairs.other.explanation().to_owned(),
        axis: format!("ratio to {other}, processor time per request"),
        kind: Kind::Dots { log: false, falling: false },
        series: names.collect(),
        extra: extra.collect(),
        rows: rows.collect(),
        missing: Vec::new(),
    }
}

fn ratio(pair: &Pair<'_>) -> Cell {
    match (pair.ratio, &pair.why) {
        (Some(ratio), _) => Cell::Known(ratio),
        (None, Some(why)) => Cell::Not(why.clone()),
        (None, None) => Cell::Unknown,
    }
}

/// Returns the processor time per request of both servers.
fn costs(pair: &Pair<'_>) -> [Cell; 2] {
    let cost = |runs: &Vec<&Figures>| {
        let spread = Spread::of(runs.iter().map(|run| run.cpu).collect());
        spread.map_or(Cell::Unknown, Cell::Known)
    };
    match &pair.figures {
        Some([one, other]) => [cost(one), cost(other)],
        None => [Cell::Unknown, Cell::Unknown],
    }
}
