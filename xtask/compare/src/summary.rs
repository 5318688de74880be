//! The most important figures, in the style of hyperfine: the best model, and
//! the ratio of each other server to it, with the ratio's range.

use lab::number::{NONE, figure, list, some};

use super::pick;
use super::remark::Remark;
use super::results::{Figures, Finding, Results};
use super::spread::Spread;
use super::workload::Workload;

/// Models shown after the best one. Further models are only counted, except the
/// last.
const NEAREST: usize = 4;

/// Failures shown. Further ones are only counted.
const FAILURES: usize = 5;

/// Marks a median that is the best of its workload, or not measurably
/// different from it.
pub const MARK: &str = "*";

/// Servers ranked by one figure, where less is better.
#[derive(Debug)]
pub struct Ranking<'a> {
    pub title: String,
    unit: &'static str,
    /// Sorted, the best first.
    models: Vec<Entry<'a>>,
    yardsticks: Vec<Entry<'a>>,
}

/// One figure of one server.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    server: &'a str,
    spread: Spread,
}

/// Makes the rankings of the measured figures.
pub fn rankings(results: &Results) -> Vec<Ranking<'_>> {
    let all = &results.workloads;
    let usual = pick::usual(all);
    let idle = pick::by_idle(all).pop().filter(|w| w.idle > 0);
    let deep = pick::by_pipeline(all).pop().filter(|w| w.pipeline > 1);
    let loads = [usual, idle, deep].into_iter().flatten();
    let processor = loads.map(|workload| {
        let title = "Processor time per request";
        by(results, title, workload, |run| Some(run.cpu))
    });
    let memory = Ranking::new(
        "Memory per connection, processes and kernel".to_owned(),
        "KiB",
        results,
        |server| pick::memory(results, server).map(|[.., both]| both),
    );
    let latency = pick::open(all).map(|workload| {
        by(results, "p99 latency", workload, |run| Some(run.p99))
    });
    processor.chain([memory]).chain(latency).flatten().collect()
}

fn by<'a>(
    results: &'a Results,
    what: &str,
    workload: &Workload,
    figure: fn(&Figures) -> Option<f64>,
) -> Option<Ranking<'a>> {
    let title = format!("{what}: {} ({})", workload.title, workload.name);
    Ranking::new(title, "µs", results, |server| {
        results.spread(&workload.name, server, figure)
    })
}

impl<'a> Ranking<'a> {
    /// Ranks the servers. Returns None if no model has the figure, or if the
    /// best model's least value isn't positive.
    fn new(
        title: String,
        unit: &'static str,
        results: &'a Results,
        spread: impl Fn(&str) -> Option<Spread>,
    ) -> Option<Self> {
        let entries = |are_models: bool| {
            let servers = results.servers.iter();
            let entries = servers
                .filter(|server| server.is_model() == are_models)
                .filter_map(|server| {
                    let server = server.title.as_str();
                    Some(Entry { server, spread: spread(server)? })
                });
            let mut entries: Vec<_> = entries.collect();
            entries.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
            entries
        };
        let (models, yardsticks) = (entries(true), entries(false));
        let base = models.first()?.spread.least;
        (base > 0.0).then_some(Self { title, unit, models, yardsticks })
    }

    /// Formats a line for each server: its name, its ratio, the sign `×`, and
    /// the ratio's range. The first line is the best model with its median.
    pub fn lines(&self) -> Vec<[String; 4]> {
        let [best, others @ ..] = self.models.as_slice() else {
            return Vec::new();
        };
        let median = figure(best.spread.median);
        let first = [best.server, &median, self.unit, MARK];
        let mut lines = vec![first.map(str::to_owned)];
        let hidden = others.len().saturating_sub(NEAREST + 1);
        let nearest = others.len().min(NEAREST);
        lines.extend(others[..nearest].iter().map(|it| ratio(it, best)));
        if hidden > 0 {
            let more = format!("{hidden} more, then");
            lines.push([more.as_str(), "", "", ""].map(str::to_owned));
        }
        let rest = &others[nearest + hidden..];
        let rest = rest.iter().chain(&self.yardsticks);
        lines.extend(rest.map(|it| ratio(it, best)));
        lines
    }
}

fn ratio(entry: &Entry<'_>, best: &Entry<'_>) -> [String; 4] {
    let ratio = entry.spread.over(&best.spread);
    let times = ratio.map_or(NONE.to_owned(), |ratio| figure(ratio.median));
    let range = ratio.and_then(|ratio| ratio.range());
    let mut range = range.map_or(String::new(), |range| format!("({range})"));
    if !entry.spread.differs(&best.spread) {
        range = format!("{range} {MARK}").trim_start().to_owned();
    }
    [entry.server.to_owned(), times, "×".to_owned(), range]
}

/// Formats the warnings that a reader needs before trusting the figures.
pub fn cautions(results: &Results) -> Vec<String> {
    let (mut measured, mut saturated, mut single) = (0, 0, 0);
    let mut failed = Vec::new();
    for (workload, server, row) in results.rows() {
        match row {
            Finding::Measured(runs) => {
                measured += 1;
                saturated += usize::from(is_saturated(&runs));
                single += usize::from(runs.len() == 1);
            }
            Finding::Failed(_) => {
                failed.push(format!("{server} in {workload}"));
            }
            Finding::Cannot { .. } => {}
        }
    }
    let more = failed.len().saturating_sub(FAILURES);
    if more > 1 {
        failed.truncate(FAILURES);
        failed.push(some(more, "more row"));
    }
    let rows = some(measured, "row");
    let runs = some(results.missing, "run");
    let cautions = [
        (measured == 0, "Nothing was measured.".to_owned()),
        (
            saturated > 0,
            format!(
                "The load generator limited the rate: {saturated} of {rows}."
            ),
        ),
        (!failed.is_empty(), format!("Failed: {}.", list(&failed))),
        (single > 0, format!("Single run, so no spread: {single} of {rows}.")),
        (results.missing > 0, format!("Interrupted; not carried out: {runs}.")),
    ];
    let cautions = cautions.into_iter().filter(|(holds, _)| *holds);
    cautions.map(|(_, text)| text).collect()
}

/// Returns whether more than half of the runs have the remark, because a single
/// one may be chance.
fn is_saturated(runs: &[&Figures]) -> bool {
    let marked =
        runs.iter().filter(|run| run.remarks.contains(&Remark::Saturated));
    2 * marked.count() > runs.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Outcome;
    use crate::sample::{self, of_costs};

    fn lines(results: &Results) -> Vec<String> {
        let rankings = rankings(results);
        assert_eq!(rankings.len(), 1, "{rankings:?}");
        let lines = rankings[0].lines().into_iter();
        lines.map(|line| line.join(" ").trim_end().to_owned()).collect()
    }

    #[test]
    fn others_are_shown_as_ratios_to_the_best_model() {
        let results = of_costs(&[
            ("ping-50", "bare-loop", &[1.9, 2.0, 2.1]),
            ("ping-50", "b", &[8.0, 9.0, 12.0]),
            ("ping-50", "a", &[2.9, 3.0, 3.2]),
            ("ping-50", "c", &[3.0, 3.15, 3.3]),
            ("ping-1", "a", &[1.0]),
        ]);
        assert_eq!(
            lines(&results),
            [
                "a 3.00 µs *",
                "c 1.05 × (0.938–1.14) *",
                "b 3.00 × (2.50–4.14)",
                "bare-loop 0.667 × (0.594–0.724)",
            ]
        );
    }

    #[test]
    fn a_long_list_shows_both_ends() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].map(|v| [v]);
        let mut rows: Vec<_> = names
            .iter()
            .zip(&values)
            .map(|(name, value)| ("ping-50", *name, value.as_slice()))
            .collect();
        let wanted = ["a", "b", "c", "d", "e", "2 more, then", "h"];
        let first = |rows: &[_]| -> Vec<String> {
            let results = of_costs(rows);
            let rankings = rankings(&results);
            rankings[0].lines().into_iter().map(|[name, ..]| name).collect()
        };
        assert_eq!(first(&rows), wanted);
        // A single server is never replaced by a count.
        rows.truncate(6);
        assert_eq!(first(&rows), ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn a_full_run_has_every_ranking() {
        let results = sample::full();
        let rankings = rankings(&results);
        let titles: Vec<_> = rankings.iter().map(|it| &it.title).collect();
        let wanted = [
            "(ping-50)",
            "(idle-10000)",
            "(pipeline-64)",
            "kernel",
            "(latency)",
        ];
        assert_eq!(titles.len(), wanted.len(), "{titles:?}");
        for (title, wanted) in titles.into_iter().zip(wanted) {
            assert!(title.ends_with(wanted), "{title}");
        }
    }

    #[test]
    fn a_row_is_saturated_if_most_of_its_runs_are() {
        let mut results = of_costs(&[
            ("ping-50", "a", &[1.0; 4]),
            ("ping-50", "b", &[1.0; 2]),
        ]);
        let caution = "The load generator limited the rate: 1 of 2 rows.";
        for marked in 0..4 {
            let warns = cautions(&results).contains(&caution.to_owned());
            assert_eq!(warns, marked > 2, "{marked} of 4");
            let Outcome::Measured(run) = &mut results.runs[marked].outcome
            else {
                panic!()
            };
            run.remarks.push(Remark::Saturated);
        }
    }

    #[test]
    fn what_went_wrong_is_counted() {
        let nothing = cautions(&Results::default());
        assert_eq!(nothing, ["Nothing was measured."]);
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let rows = names.map(|name| ("ping-50", name, &[3.0][..]));
        let mut results = of_costs(&rows);
        results.missing = 1;
        let single = "Single run, so no spread: 7 of 7 rows.";
        let missing = "Interrupted; not carried out: 1 run.";
        assert_eq!(cautions(&results), [single, missing]);
        for run in &mut results.runs {
            run.outcome = Outcome::Failed("it died".to_owned());
        }
        let failed = "Failed: a in ping-50, b in ping-50, c in ping-50, d in \
                      ping-50, e in ping-50 and 2 more rows.";
        let nothing = "Nothing was measured.";
        assert_eq!(cautions(&results), [nothing, failed, missing]);
    }
}
