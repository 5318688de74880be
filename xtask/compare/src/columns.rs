//! The columns of a table, in a terminal and on the page.

use lab::number;

use super::results::{Figures, Results};
use super::spread::Spread;
use super::summary::MARK;

/// One figure, and its presentation.
#[derive(Debug)]
pub struct Column {
    /// The heading in a terminal.
    pub short: &'static str,
    /// The heading on the page, with its unit below.
    pub name: &'static str,
    pub unit: &'static str,
    pub of: fn(&Figures) -> Option<f64>,
    pub show: fn(f64) -> String,
    /// None if neither more nor less is better.
    better: Option<Better>,
    /// Whether the page shows the range of the runs.
    pub spread: bool,
    /// On a narrow terminal, columns of the highest rank are omitted first.
    /// Columns of rank 0 are never omitted.
    pub rank: u8,
}

/// Whether lower or higher values are better.
#[derive(Clone, Copy, Debug)]
enum Better {
    Less,
    More,
}

/// All columns, in order.
pub const COLUMNS: [Column; 14] = [
    Column {
        spread: true,
        better: Some(Better::More),
        ..column("REQ/S", "Requests", "per second", 0, |f| Some(f.rate))
    },
    less(column("P50", "p50", "µs", 0, |f| Some(f.p50))),
    less(column("P90", "p90", "µs", 12, |f| Some(f.p90))),
    Column {
        spread: true,
        ..less(column("P99", "p99", "µs", 3, |f| Some(f.p99)))
    },
    less(column("P99.9", "p99.9", "µs", 7, |f| Some(f.p999))),
    Column {
        spread: true,
        ..less(column("CPU", "CPU", "µs/request", 0, |f| Some(f.cpu)))
    },
    column("USER", "user", "µs/request", 9, |f| f.user),
    column("SYS", "system", "µs/request", 9, |f| f.system),
    column("SWITCH", "Switches", "per request", 6, |f| Some(f.switches)),
    less(column("MEM", "Memory, processes", "KiB/conn.", 5, |f| f.memory)),
    less(column("KERN", "Memory, kernel", "KiB/conn.", 8, |f| f.kernel)),
    Column {
        show: number::count,
        ..column("THR", "Threads", "", 10, |f| Some(f.threads as f64))
    },
    Column {
        show: number::count,
        ..column("PROC", "Processes", "", 13, |f| Some(f.processes as f64))
    },
    Column {
        show: number::percent,
        ..column("GEN%", "Generator", "% of a CPU", 11, |f| Some(f.client))
    },
];

const fn column(
    short: &'static str,
    name: &'static str,
    unit: &'static str,
    rank: u8,
    of: fn(&Figures) -> Option<f64>,
) -> Column {
    let (show, better) = (number::figure, None);
    Column { short, name, unit, of, show, better, spread: false, rank }
}

/// Marks lower values of a column as better.
const fn less(mut column: Column) -> Column {
    column.better = Some(Better::Less);
    column
}

impl Column {
    /// Returns the runs of the best model under a workload, against which
    /// servers are marked. None if there are fewer than two models.
    pub fn best(&self, results: &Results, workload: &str) -> Option<Spread> {
        let better = self.better?;
        let models = results.servers.iter().filter(|s| s.is_model());
        let spreads = models.filter_map(|server| {
            results.spread(workload, &server.title, self.of)
        });
        let mut spreads: Vec<_> = spreads.collect();
        spreads.sort_by(|a, b| match better {
            Better::Less => a.median.total_cmp(&b.median),
            Better::More => b.median.total_cmp(&a.median),
        });
        spreads.first().copied().filter(|_| spreads.len() > 1)
    }

    /// Returns whether a server is marked: it is the best model, or not
    /// measurably different from it.
    pub fn is_marked(&self, runs: &[&Figures], best: Option<&Spread>) -> bool {
        let own = self.spread(runs);
        own.zip(best).is_some_and(|(own, best)| !own.differs(best))
    }

    /// Adds the mark to a cell, or a space in its place. A column without a
    /// better direction has no marks.
    pub fn marked(&self, cell: &str, is_marked: bool) -> String {
        match (self.better, is_marked) {
            (None, _) => cell.to_owned(),
            (_, true) => format!("{cell}{MARK}"),
            (_, false) => format!("{cell} "),
        }
    }

    /// Returns the spread of several runs.
    pub fn spread(&self, runs: &[&Figures]) -> Option<Spread> {
        let values = runs.iter().filter_map(|run| (self.of)(run));
        Spread::of(values.collect())
    }
}
