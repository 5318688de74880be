//! `cargo xtask compare --check`: checks the performance bounds of the fastest
//! models, as ratios within one run, in which servers take turns (see
//! [abreast](super::abreast)).

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lab::model::Workspace;
use lab::number::NONE;
use lab::screen;
use lab::table::{Column, Row, Table};

use super::contender::{BARE, REDIS};
use super::results::{Figures, Outcome, Results};
use super::spread::Spread;
use super::workload::{self, Workload};

/// The number of runs. Pairs are compared run by run, and the median counts.
/// Many short runs are better than few long ones, because other work on the
/// machine comes and goes within seconds.
pub const RUNS: usize = 15;

/// The fewest runs that are significant.
pub const RUNS_MIN: usize = 7;

/// The length of a run.
pub const SECONDS: f64 = 0.5;

/// A workload, the greatest ratio of a model's processor time per request to
/// the bare loop's, and the least ratio of Redis's to the model's.
const PROMISES: [(&str, f64, f64); 3] = [
    ("ping-50", 1.05, 1.08),
    ("pipeline-16", 1.15, 1.4),
    ("pipeline-64", 1.30, 2.5),
];

/// A workload with idle connections, and the greatest ratio of the processor
/// time per request to that of a second instance without them.
const IDLE: (&str, f64) = ("idle-10000", 1.05);

/// Returns the variants to check.
pub fn servers(workspace: &Workspace) -> Vec<String> {
    let variants = workspace.variants();
    let near = variants.filter(|(_, it)| it.promises.near_bare_loop);
    near.map(|(model, variant)| model.title(variant)).collect()
}

/// Selects the workloads that have bounds.
pub fn workloads(all: Vec<Workload>) -> Result<Vec<Workload>> {
    let promised = PROMISES.map(|(name, ..)| name.to_owned());
    let names = [&promised[..], &[IDLE.0.to_owned()]].concat();
    workload::named(all, &names)
}

/// One bound, and its measured ratio.
#[derive(Debug)]
struct Verdict {
    what: String,
    /// Counts as kept if Redis isn't installed.
    needs_redis: bool,
    ratio: Option<Spread>,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Verdict {
    /// Returns whether the bound is kept; None if it wasn't measured.
    fn holds(&self) -> Option<bool> {
        let median = self.ratio?.median;
        Some(match self.bound {
            Bound::AtMost(most) => median <= most,
            Bound::AtLeast(least) => median >= least,
        })
    }

    fn row(&self) -> Row {
        let bound = match self.bound {
            Bound::AtMost(most) => format!("at most {most:.2}"),
            Bound::AtLeast(least) => format!("at least {least:.2}"),
        };
        let verdict = match self.holds() {
            None => "not measured",
            Some(true) => "holds",
            Some(false) => "BROKEN",
        };
        let ratio = self.ratio.map_or(NONE.to_owned(), |ratio| {
            let Spread { median, least, most } = ratio;
            format!("{median:.3} ({least:.3} to {most:.3})")
        });
        let cells = vec![self.what.clone(), ratio, bound, verdict.to_owned()];
        Row { cells, text: String::new() }
    }
}

/// Prints every bound. Fails if one is broken or wasn't measured.
pub fn judge(results: &Results, servers: &[String]) -> Result<ExitCode> {
    ensure!(results.missing == 0, "interrupted before all runs were measured");
    let verdicts = verdicts(results, servers);
    let headings =
        ["PROCESSOR TIME PER REQUEST", "RATIO OF EACH RUN", "BOUND", "VERDICT"];
    let table = Table {
        columns: headings.map(Column::left).to_vec(),
        text: String::new(),
        rows: verdicts.iter().map(Verdict::row).collect(),
    };
    screen::print(&table.render(screen::width())).context("the verdicts")?;
    Ok(if are_kept(results, &verdicts) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Evaluates every bound.
fn verdicts(results: &Results, servers: &[String]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for model in servers {
        for (workload, most, least) in PROMISES {
            verdicts.push(Verdict {
                what: format!("{workload}: {model} / {BARE}"),
                needs_redis: false,
                ratio: ratio(results, workload, model, BARE),
                bound: Bound::AtMost(most),
            });
            verdicts.push(Verdict {
                what: format!("{workload}: {REDIS} / {model}"),
                needs_redis: true,
                ratio: ratio(results, workload, REDIS, model),
                bound: Bound::AtLeast(least),
            });
        }
    }
    let (workload, most) = IDLE;
    for model in servers {
        verdicts.push(Verdict {
            what: format!("{workload}: {model} / without idle clients"),
            needs_redis: false,
            ratio: added(results, workload, model),
            bound: Bound::AtMost(most),
        });
    }
    verdicts
}

/// Returns whether all bounds are kept, except those against Redis if it isn't
/// installed.
fn are_kept(results: &Results, verdicts: &[Verdict]) -> bool {
    let has_redis = results.servers.iter().any(|s| s.title == REDIS);
    verdicts.iter().all(|verdict| {
        verdict.holds().unwrap_or(verdict.needs_redis && !has_redis)
    })
}

/// Divides one server's processor time per request by another's, run by run.
fn ratio(
    results: &Results,
    workload: &str,
    over: &str,
    under: &str,
) -> Option<Spread> {
    let (over, under) =
        (figures(results, workload, over)?, figures(results, workload, under)?);
    let pairs = over.iter().zip(under);
    Spread::of(pairs.map(|(over, under)| over.cpu / under.cpu).collect())
}

/// Divides one server's processor time per request with idle connections by
/// that without them, run by run.
fn added(results: &Results, workload: &str, server: &str) -> Option<Spread> {
    let runs = figures(results, workload, server)?;
    let ratios: Option<Vec<_>> =
        runs.iter().map(|run| Some(run.cpu / run.alone?)).collect();
    Spread::of(ratios?)
}

/// Returns the figures of all runs, in order. None unless all of them were
/// measured.
fn figures<'a>(
    results: &'a Results,
    workload: &str,
    server: &str,
) -> Option<Vec<&'a Figures>> {
    let last = results.runs.iter().map(|run| run.number).max()?;
    let runs = results.runs_of(workload, server);
    let figures = runs.map(|run| match &run.outcome {
        Outcome::Measured(figures) => Some(figures),
        _ => None,
    });
    let figures: Vec<_> = figures.collect::<Option<_>>()?;
    (figures.len() == last).then_some(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// Makes runs in which servers used this processor time under every load.
    fn results(rows: &[(&str, [f64; 3])]) -> Results {
        let workloads = PROMISES.map(|(workload, ..)| workload);
        let workloads = workloads.into_iter().chain([IDLE.0]);
        let rows = workloads.flat_map(|workload| {
            rows.iter().map(move |(server, cpu)| (workload, *server, &cpu[..]))
        });
        let rows: Vec<_> = rows.collect();
        let mut results = sample::of_costs(&rows);
        set_alone(&mut results, 1.0);
        results
    }

    const MODELS: [&str; 3] = ["level", "edge", "ring"];

    /// Sets the processor time without idle connections.
    fn set_alone(results: &mut Results, cpu: f64) {
        for run in &mut results.runs {
            let Outcome::Measured(figures) = &mut run.outcome else { panic!() };
            figures.alone = Some(cpu);
        }
    }

    fn hold(results: &Results) -> bool {
        let models = MODELS.map(str::to_owned);
        are_kept(results, &verdicts(results, &models))
    }

    fn holds(rows: &[(&str, [f64; 3])]) -> bool {
        hold(&results(rows))
    }

    #[test]
    fn ratios_are_computed_run_by_run() {
        // The machine is twice as slow in the last run, for both.
        let rows = [("one", [1.1, 1.0, 2.2]), ("other", [1.0, 1.0, 2.0])];
        let results = results(&rows);
        let ratio = ratio(&results, "ping-50", "one", "other").unwrap();
        assert!((ratio.median - 1.1).abs() < 1e-9, "{ratio:?}");
        assert!((ratio.least - 1.0).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn promises_are_kept_or_broken() {
        let [level, edge, ring] = MODELS;
        let fast = [1.0; 3];
        let redis = ("redis-server", [3.0; 3]);
        let bare = ("bare-loop", [1.0; 3]);
        let good = [(level, fast), (edge, fast), (ring, fast), bare, redis];
        assert!(holds(&good));
        // Redis is optional, the models and the bare loop are required.
        assert!(holds(&good[..4]));
        assert!(!holds(&good[1..]));
        assert!(!holds(&good[..3]));
        let mut failed = results(&good);
        failed.runs[0].outcome = Outcome::Failed("gone".to_owned());
        assert!(!hold(&failed));
        failed.missing = 1;
        judge(&failed, &[]).unwrap_err();
        let mut idle = results(&good);
        set_alone(&mut idle, 0.95);
        assert!(!hold(&idle));
        let mut slow = good;
        slow[2].1 = [1.06; 3];
        assert!(!holds(&slow));
        let mut quick_redis = good;
        quick_redis[4].1 = [2.4; 3];
        assert!(!holds(&quick_redis));
    }
}
