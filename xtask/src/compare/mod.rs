//! `cargo xtask compare`: the same load on every model, and what each makes
//! of it.
//!
//! How it measures, and what that can't tell, is in METHODOLOGY.md.

mod abreast;
pub mod bare;
mod check;
mod columns;
mod contender;
mod correct;
mod environment;
pub mod interrupt;
pub mod load;
pub mod number;
pub mod page;
mod plan;
mod raw;
mod results;
#[cfg(test)]
mod sample;
mod serving;
mod table;
mod trial;
mod usage;
pub mod workload;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::camino::Utf8Path;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::model::{Model, Workspace};
use crate::trace::all::{self, Extent};
use crate::trace::survey::Survey;
use crate::{build, process, screen};
use contender::{Contender, contenders};
use plan::Plan;
use results::{Outcome, Results, Run};
use trial::{Processors, Spans};
use workload::Workload;

/// Flags of `cargo xtask compare`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The workloads that matter most, in a few minutes: the default.
    #[arg(long, conflicts_with_all = ["full", "check"])]
    quick: bool,
    /// All workloads, with longer runs; says beforehand how long that takes.
    #[arg(long, conflicts_with = "check")]
    full: bool,
    /// Check what is promised of multiplexing-epoll's and async-io's speed,
    /// against the yardsticks.
    #[arg(long, conflicts_with_all = ["model", "workload"])]
    check: bool,
    /// Only this model, or this variant of one: `multiplexing-epoll/edge`.
    /// May be given several times.
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    model: Vec<String>,
    /// Only this workload. May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    workload: Vec<String>,
    /// Do not trace the models afterwards, for the page's section on how they
    /// wait.
    #[arg(long)]
    no_trace: bool,
    /// How often everything is measured [default: 3; with --check 15].
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// How long one measurement lasts [default: 0.8; with --full 2, with
    /// --check 0.5].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
}

/// What the folder holds at the end.
const FILES: [&str; 4] =
    [raw::FILE, "environment.txt", "index.html", "chart.svg"];

/// Exit code after Ctrl-C, as shells have it: 128 and the signal's number.
pub const INTERRUPTED: u8 = 130;

/// Fewer have no spread.
const RUNS_MIN: usize = 3;

/// In seconds: shorter measurements are of the start, longer ones tell nothing
/// more.
const SECONDS: (f64, f64) = (0.1, 600.0);

/// How much of a measurement's time is spent before it, to fill caches and
/// buffers.
const WARM_UP: f64 = 0.2;

/// Builds, measures, prints and writes.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let plan = flags.plan(&workspace)?;
    let folder = workspace.target.join("compare");
    build(&workspace, &plan.contenders)?;
    process::raise_descriptor_limit()?;
    interrupt::prepare()?;
    let _alone = take(&folder)?;
    screen::print(&plan.announcement())?;
    let processors = place_apart()?;
    let mut results = plan.start(environment::describe(&workspace, processors));
    let carried_out = plan.carry_out(&mut results, processors, &folder);
    let is_whole = carried_out.is_ok() && results.missing == 0;
    if is_whole && !flags.check && !flags.no_trace {
        let traced = trace(&workspace, &plan.contenders, processors);
        results.traced = Some(traced.map_err(|error| format!("{error:#}")));
    }
    show(&results, &folder)?;
    carried_out?;
    if flags.check {
        return check::judge(&results);
    }
    if results.missing > 0 {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let failed = |run: &&Run| matches!(run.outcome, Outcome::Failed(_));
    match results.runs.iter().filter(failed).count() {
        0 => Ok(ExitCode::SUCCESS),
        1 => bail!("a run failed"),
        failed => bail!("{failed} runs failed"),
    }
}

impl Flags {
    fn plan(&self, workspace: &Workspace) -> Result<Plan> {
        let all = workload::all()?;
        let (least, usual) = if self.check {
            (check::RUNS_MIN, check::RUNS)
        } else {
            (RUNS_MIN, RUNS_MIN)
        };
        let runs = self.runs.unwrap_or(usual);
        ensure!(runs >= least, "--runs {runs}: it is {least} at least");
        let seconds = match (self.full, self.check) {
            (true, _) => 2.0,
            (_, true) => check::SECONDS,
            _ => 0.8,
        };
        let seconds = self.seconds.unwrap_or(seconds);
        let (least, most) = SECONDS;
        ensure!(
            (least..=most).contains(&seconds),
            "--seconds {seconds}: it is {least} to {most}"
        );
        let (workloads, names) = if self.check {
            (check::workloads(all)?, check::servers())
        } else {
            (self.workloads(all)?, self.model.clone())
        };
        Ok(Plan {
            contenders: contenders(workspace, &names)?,
            workloads,
            runs,
            abreast: self.check,
            spans: Spans {
                warm_up: Duration::from_secs_f64(seconds * WARM_UP),
                measured: Duration::from_secs_f64(seconds),
            },
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

/// Builds what will run. A load generator that nobody has optimised would be
/// the bottleneck, so that what goes on from here is the release build.
fn build(workspace: &Workspace, contenders: &[Contender]) -> Result<()> {
    let models = contenders.iter().filter_map(Contender::model);
    let models: Vec<Model> = models.cloned().collect();
    build::release(workspace, &models)?;
    if cfg!(debug_assertions) {
        let program = build::tool(workspace)?;
        let arguments = std::env::args_os().skip(1);
        let error = Command::new(&program).args(arguments).exec();
        bail!("cannot start {program}: {error}");
    }
    Ok(())
}

/// The last processor is the generator's, the others are the servers'.
fn place_apart() -> Result<Processors> {
    let me = Pid::from_raw(0);
    let mine = process::allowed_processors(
        nix::unistd::getpid(),
        nix::unistd::gettid(),
    )?;
    let Some((last, others)) = mine.split_last() else {
        bail!("no processor");
    };
    if others.is_empty() {
        return Ok(Processors { servers: None, count: 1, generator: *last });
    }
    let mut generator = CpuSet::new();
    generator.set(*last).context("the generator's processor")?;
    let mut servers = CpuSet::new();
    for processor in others {
        servers.set(*processor).context("the servers' processors")?;
    }
    sched_setaffinity(me, &generator).context("sched_setaffinity")?;
    Ok(Processors {
        servers: Some(servers),
        count: others.len(),
        generator: *last,
    })
}

/// Looks at what the models call, after everything is measured and on all
/// processors.
fn trace(
    workspace: &Workspace,
    contenders: &[Contender],
    processors: Processors,
) -> Result<Survey> {
    let mut both = processors.servers.unwrap_or_default();
    both.set(processors.generator).context("a processor")?;
    sched_setaffinity(Pid::from_raw(0), &both).context("sched_setaffinity")?;
    let models: Vec<_> =
        contenders.iter().filter_map(Contender::variant).collect();
    all::survey(workspace, &models, Extent::brief())
}

/// Makes the folder ours, and empty of an earlier comparison's files: new
/// figures beside an old page would deceive. Two comparisons at a time would
/// measure each other.
fn take(folder: &Utf8Path) -> Result<Flock<File>> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {folder}"))?;
    let path = folder.join("lock");
    let file =
        File::create(&path).with_context(|| format!("cannot create {path}"))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("{path}: another comparison is running"))?;
    for name in FILES {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot remove {path}"));
            }
            _ => {}
        }
    }
    Ok(lock)
}

/// Writes what there is, even after an interruption.
fn show(results: &Results, folder: &Utf8Path) -> Result<()> {
    let lines = results.environment.iter();
    let lines = lines.map(|(name, value)| format!("{name}: {value}\n"));
    let [_, environment, page, chart] = FILES;
    for (name, text) in [
        (environment, lines.collect()),
        (page, page::render(results)),
        (chart, page::chart_for_readme(results)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text)
            .with_context(|| format!("cannot write {path}"))?;
    }
    screen::print(&table::render(results, screen::width()))?;
    screen::print(&format!(
        "\nThe page: {folder}/index.html; every run: {folder}/runs.csv\n"
    ))
}
