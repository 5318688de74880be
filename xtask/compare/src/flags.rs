//! The flags of `cargo xtask compare`, and the plans that they ask for.

use std::time::Duration;

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;
use lab::model::Workspace;

use super::contender::contenders;
use super::pairs::{self, Other};
use super::plan::{Order, Plan};
use super::trial::Spans;
use super::workload::{self, Workload};
use super::{RUNS_MIN, check};

/// The shortest and longest measurement, in seconds. A shorter one would
/// measure the start, a longer one adds no information.
const SECONDS: (f64, f64) = (0.1, 600.0);

/// The length of the warm-up before a measurement, as a fraction of it. It
/// fills caches and buffers.
const WARM_UP: f64 = 0.2;

/// Flags of `cargo xtask compare`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Measure all workloads, not only the most important, with longer runs,
    /// and what the policies cost. The command first prints how long that will
    /// take.
    #[arg(long, conflicts_with = "check")]
    full: bool,
    /// Check the performance bounds: of all models against their minimal
    /// programs, and of those with `near_bare_loop` against bare-loop and
    /// Redis.
    #[arg(long, conflicts_with_all = ["model", "workload"])]
    check: bool,
    /// Measure only what the policies cost: each model and its minimal program
    /// in turns.
    #[arg(long, conflicts_with_all = ["full", "check"])]
    minimal: bool,
    /// Measure each model and the program of the same name in this folder in
    /// turns, for example that of an earlier build.
    #[arg(long, value_name = "DIR",
          conflicts_with_all = ["full", "check", "minimal"])]
    baseline: Option<Utf8PathBuf>,
    /// Measure only this model or variant, for example
    /// `multiplexing-epoll/edge`. May be repeated.
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    model: Vec<String>,
    /// Measure only this workload. May be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    workload: Vec<String>,
    /// Don't trace the models afterwards for the page's section on how they
    /// wait.
    #[arg(long)]
    no_trace: bool,
    /// Number of runs of each measurement [default: 3; with --check 15; of
    /// pairs 7].
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Length of one measurement [default: 0.6; with --full 2, with --check
    /// 0.5; of pairs 0.3].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
}

impl Flags {
    pub const fn is_check(&self) -> bool {
        self.check
    }

    /// Returns whether to trace the models after the measurements.
    pub const fn traces(&self) -> bool {
        !self.check && !self.no_trace
    }

    /// Returns the plan of the comparison; none if only pairs are measured.
    pub fn plan(&self, workspace: &Workspace) -> Result<Option<Plan>> {
        if self.minimal || self.baseline.is_some() {
            return Ok(None);
        }
        let all = workload::all()?;
        let (least, usual) = if self.check {
            (check::RUNS_MIN, check::RUNS)
        } else {
            (RUNS_MIN, RUNS_MIN)
        };
        let seconds = match (self.full, self.check) {
            (true, _) => 2.0,
            (_, true) => check::SECONDS,
            _ => 0.6,
        };
        let (workloads, names) = if self.check {
            (check::workloads(all)?, check::servers(workspace))
        } else {
            (self.workloads(all)?, self.model.clone())
        };
        Ok(Some(Plan {
            contenders: contenders(workspace, &names)?,
            workloads,
            runs: self.runs(least, usual)?,
            order: if self.check { Order::Together } else { Order::Alone },
            spans: self.spans(seconds)?,
        }))
    }

    /// Returns the plan of the pairs, if the flags ask for them.
    pub fn pairs(
        &self,
        workspace: &Workspace,
    ) -> Result<Option<(Other, Plan)>> {
        let mut models = contenders(workspace, &self.model)?;
        models.retain(|it| it.model().is_some());
        let (other, contenders) = if let Some(folder) = &self.baseline {
            (Other::Baseline, pairs::with_baseline(folder, models)?)
        } else if self.pairs_with_minimal() {
            (Other::Minimal, pairs::with_minimal(workspace, models)?)
        } else {
            return Ok(None);
        };
        let names = match &self.workload[..] {
            [] => &pairs::WORKLOADS.map(str::to_owned),
            names => names,
        };
        let plan = Plan {
            contenders,
            workloads: workload::named(workload::all()?, names)?,
            runs: self.runs(RUNS_MIN, pairs::RUNS)?,
            order: Order::Pairs,
            spans: self.spans(pairs::SECONDS)?,
        };
        Ok(Some((other, plan)))
    }

    fn pairs_with_minimal(&self) -> bool {
        let all =
            self.full && self.model.is_empty() && self.workload.is_empty();
        self.minimal || self.check || all
    }

    /// Returns the number of runs.
    fn runs(&self, least: usize, usual: usize) -> Result<usize> {
        let runs = self.runs.unwrap_or(usual);
        ensure!(runs >= least, "--runs {runs}: at least {least} are required");
        Ok(runs)
    }

    /// Returns the length of a measurement and of its warm-up.
    fn spans(&self, usual: f64) -> Result<Spans> {
        let seconds = self.seconds.unwrap_or(usual);
        let (least, most) = SECONDS;
        ensure!(
            (least..=most).contains(&seconds),
            "--seconds {seconds}: must be {least} to {most}"
        );
        Ok(Spans {
            warm_up: Duration::from_secs_f64(seconds * WARM_UP),
            measured: Duration::from_secs_f64(seconds),
        })
    }

    fn workloads(&self, all: Vec<Workload>) -> Result<Vec<Workload>> {
        if !self.workload.is_empty() {
            return workload::named(all, &self.workload);
        }
        let chosen = |workload: &Workload| self.full || workload.quick;
        Ok(all.into_iter().filter(chosen).collect())
    }
}
