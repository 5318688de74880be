//! `cargo xtask compare --check`: checks the performance bounds of the fastest
//! models, as ratios within one run, in which servers take turns (see
//! [abreast](super::abreast)).

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lab::model::Workspace;
use lab::number::NONE;
use lab::promises::Answers;
use lab::screen;
use lab::table::{Column, Row, Table};

use super::contender::{BARE, REDIS};
use super::pairs::Pairs;
use super::results::{Figures, Results};
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

/// A workload, and the greatest ratio of a model's processor time per request
/// to that of its own minimal program: what the policies may cost.
const POLICIES: [(&str, f64); 3] =
    [("ping-50", 1.05), ("pipeline-16", 1.10), ("pipeline-64", 1.20)];

/// The least of these bounds for a model that passes each request to another
/// thread and back. How often that wakes a thread depends on the scheduler:
/// medians lay between 1.02 and 1.08, and single runs between 1.00 and 1.13.
const PASSED_ON: f64 = 1.10;

/// A workload with idle connections, and the greatest ratio of the processor
/// time per request to that of a second instance without them.
const IDLE: (&str, f64) = ("idle-10000", 1.05);

/// Returns the variants to check.
pub fn servers(workspace: &Workspace) -> Vec<String> {
    let variants = workspace.variants();
    let near = variants.filter(|(_, it)| it.promises.near_bare_loop);
    near.map(|(model, variant)| model.title(variant)).collect()
}

/// Returns the variants that pass each request to another thread and back.
pub fn passing_on(workspace: &Workspace) -> Vec<String> {
    let variants = workspace.variants();
    let passing =
        variants.filter(|(_, it)| it.promises.answers == Answers::AnyWorker);
    passing.map(|(model, variant)| model.title(variant)).collect()
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
pub fn judge(
    results: &Results,
    servers: &[String],
    pairs: &Pairs,
    passing_on: &[String],
) -> Result<ExitCode> {
    let missing = results.missing + pairs.results.missing;
    ensure!(missing == 0, "interrupted before all runs were measured");
    let mut verdicts = verdicts(results, servers);
    verdicts.extend(policies(pairs, passing_on));
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
                ratio: results.ratio(workload, model, BARE, cpu),
                bound: Bound::AtMost(most),
            });
            verdicts.push(Verdict {
                what: format!("{workload}: {REDIS} / {model}"),
                needs_redis: true,
                ratio: results.ratio(workload, REDIS, model, cpu),
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

/// Evaluates the bounds of what policies cost.
fn policies(pairs: &Pairs, passing_on: &[String]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for workload in &pairs.results.workloads {
        let name = workload.name.as_str();
        let bound = POLICIES.iter().find(|(of, _)| *of == name);
        let Some(&(_, most)) = bound else { continue };
        for pair in pairs.of(workload) {
            let passes_on = passing_on.iter().any(|it| it == pair.server);
            let most = if passes_on { most.max(PASSED_ON) } else { most };
            verdicts.push(Verdict {
                what: format!("{name}: {} / minimal", pair.server),
                needs_redis: false,
                ratio: pair.ratio,
                bound: Bound::AtMost(most),
            });
        }
    }
    verdicts
}

fn cpu(figures: &Figures) -> f64 {
    figures.cpu
}

/// Returns whether all bounds are kept, except those against Redis if it isn't
/// installed.
fn are_kept(results: &Results, verdicts: &[Verdict]) -> bool {
    let has_redis = results.servers.iter().any(|s| s.title == REDIS);
    verdicts.iter().all(|verdict| {
        verdict.holds().unwrap_or(verdict.needs_redis && !has_redis)
    })
}

/// Divides one server's processor time per request with idle connections by
/// that without them, run by run.
fn added(results: &Results, workload: &str, server: &str) -> Option<Spread> {
    let runs = results.figures(workload, server)?;
    let ratios: Option<Vec<_>> =
        runs.iter().map(|run| Some(run.cpu / run.alone?)).collect();
    Spread::of(ratios?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairs::{Other, WORKLOADS};
    use crate::results::Outcome;
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
        let ratio = results.ratio("ping-50", "one", "other", cpu).unwrap();
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
        judge(&failed, &[], &policies_at(1.0), &[]).unwrap_err();
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

    /// Makes one pair with this ratio under each load.
    fn policies_at(ratio: f64) -> Pairs {
        let (one, other) = ([ratio; 3], [1.0; 3]);
        let rows = WORKLOADS.iter().flat_map(|workload| {
            [(*workload, "a", &one[..]), (*workload, "a, minimal", &other[..])]
        });
        let rows: Vec<_> = rows.collect();
        let results = sample::of_costs(&rows);
        Pairs { other: Other::Minimal, results }
    }

    #[test]
    fn policies_may_cost_less_with_a_short_pipeline() {
        let kept = |ratio| -> Vec<_> {
            let verdicts = policies(&policies_at(ratio), &[]);
            verdicts.iter().map(|it| it.holds().unwrap()).collect()
        };
        assert_eq!(kept(1.04), [true, true, true]);
        assert_eq!(kept(1.07), [false, true, true]);
        assert_eq!(kept(1.15), [false, false, true]);
        assert_eq!(kept(1.25), [false, false, false]);
        let mut failed = policies_at(1.0);
        failed.results.runs[0].outcome = Outcome::Failed("gone".to_owned());
        assert_eq!(policies(&failed, &[])[0].holds(), None);
        let passing_on = ["a".to_owned()];
        let verdicts = policies(&policies_at(1.07), &passing_on);
        assert_eq!(verdicts[0].holds(), Some(true));
        let verdicts = policies(&policies_at(1.11), &passing_on);
        assert_eq!(verdicts[0].holds(), Some(false));
    }
}
