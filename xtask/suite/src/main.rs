//! The shared suite: what every model promises, checked from outside.
//!
//! It knows models only through the process contract: command line, ready
//! line, sockets, signals, exit codes, and what /proc and ptrace(2) show. A
//! case's name says where it belongs:
//! `multiplexing-epoll/edge::pipelining::...`.

#![allow(clippy::print_stdout, reason = "its report is for people")]

mod bytes;
mod case;
mod client;
mod datagrams;
mod fault;
mod groups;
mod interrupt;
mod judge;
mod launch;
mod load;
pub mod memory;
mod progress;
mod queue;
mod reply;
mod report;
mod runner;
mod scenes;
mod server;
mod tail;
mod units;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use lab::ceilings::Ceilings;
use lab::model::{Model, Workspace};
use lab::{build, process, program};
use trace::golden;

use case::{Subject, Surroundings};
use judge::Redis;
use runner::Plan;
use scenes::Scenes;

/// How long anything may take that a case waits for. Generous, because a
/// wait that ends well ends early: only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what an idle client costs in memory, model by model.
    Memory(memory::Flags),
    /// Run the shared suite on the named models.
    Test(Flags),
    /// Build everything, run the unit tests and the suite on every model.
    TestAll(AllFlags),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Memory(flags) => memory::run(&flags),
        Command::Test(flags) => test(&flags),
        Command::TestAll(flags) => test_all(&flags),
    })
}

/// Flags of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Which models: `multiplexing-epoll`, or one variant,
    /// `multiplexing-epoll/edge`; all of them if none is named.
    models: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// Flags of `cargo xtask test-all`.
#[derive(Debug, clap::Args)]
pub struct AllFlags {
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Run only the cases whose whole name contains this.
    #[arg(long, value_name = "FILTER")]
    case: Option<String>,
    /// List the cases and run none.
    #[arg(long)]
    list: bool,
    /// How many cases run side by side; they mostly wait [default: four for
    /// each processor].
    #[arg(long, value_name = "N", default_value_t = default_jobs(),
          hide_default_value = true)]
    jobs: usize,
    /// Where random streams start: the same seed gives the same streams.
    #[arg(long, value_name = "N", default_value_t = 7379)]
    seed: u64,
    /// Show so many of the cases that took longest.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slowest: usize,
    /// Write down where models end, in xtask/ceilings.toml, and what calls
    /// they make, in xtask/trace/golden, instead of comparing with what
    /// stands there.
    #[arg(long)]
    record: bool,
}

fn default_jobs() -> usize {
    4 * std::thread::available_parallelism().map_or(2, usize::from)
}

/// Builds some models and runs the suite on them.
pub fn test(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let subjects = subjects(&workspace, &flags.models)?;
    let models: Vec<Model> = workspace
        .models
        .iter()
        .filter(|model| subjects.iter().any(|s| s.model.name == model.name))
        .cloned()
        .collect();
    let plan = Plan::new(&subjects, flags.options.case.as_deref());
    if flags.options.list {
        return Ok(plan.list());
    }
    build::release(&workspace, &models)?;
    let report = run(&workspace, &plan, &flags.options)?;
    Ok(report.print(&[], flags.options.slowest))
}

/// Builds everything, runs the unit tests, then the suite on every model.
pub fn test_all(flags: &AllFlags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let subjects = subjects(&workspace, &[])?;
    let plan = Plan::new(&subjects, flags.options.case.as_deref());
    if flags.options.list {
        return Ok(plan.list());
    }
    build::release(&workspace, &workspace.models)?;
    let units = units::run(&workspace)?;
    let report = run(&workspace, &plan, &flags.options)?;
    Ok(report.print(&[units], flags.options.slowest))
}

fn run(
    workspace: &Workspace,
    plan: &Plan,
    options: &Options,
) -> Result<report::Report> {
    interrupt::prepare()?;
    process::raise_descriptor_limit()?;
    let around = Arc::new(Surroundings {
        seed: options.seed,
        // Started here, because it would end with the thread that started it.
        redis: Redis::start(),
        ceilings: Ceilings::load(workspace)?,
        golden: golden::folder(workspace),
        scenes: Scenes::default(),
        recorded: options.record.then(Mutex::default),
    });
    let report = runner::run(plan, options.jobs, &around)?;
    if let Some(recorded) = &around.recorded {
        let recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.save(workspace)?;
    }
    Ok(report)
}

/// What `names` choose, in reading order; everything if there are none.
fn subjects(
    workspace: &Workspace,
    names: &[String],
) -> Result<Vec<Arc<Subject>>> {
    let mut unknown: Vec<_> = names.iter().collect();
    let mut subjects = Vec::new();
    for model in &workspace.models {
        for variant in &model.variants {
            let title = model.title(variant);
            let chosen = |name: &String| *name == model.name || *name == title;
            if names.is_empty() || names.iter().any(chosen) {
                subjects.push(Arc::new(Subject {
                    model: model.clone(),
                    variant: variant.clone(),
                    program: build::binary(workspace, model),
                }));
            }
            unknown.retain(|name| !chosen(name));
        }
    }
    if let Some(name) = unknown.first() {
        // Says which there are.
        let model = name.split('/').next().unwrap_or(name);
        workspace.model(model)?;
        bail!("{model} has no variant called {name}");
    }
    Ok(subjects)
}
