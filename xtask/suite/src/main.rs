//! The shared suite: what every model promises, checked from outside.
//!
//! The suite knows models only through the process contract: command line,
//! ready line, sockets, signals, exit codes, and what /proc and ptrace(2) show.
//! The name of a case begins with model, variant and group:
//! `multiplexing-epoll/edge::tcp::...`.

#![allow(clippy::print_stdout, reason = "its report is for people")]

mod bytes;
mod case;
mod client;
mod datagrams;
mod fault;
mod groups;
mod launch;
mod load;
mod redis;
mod reply;
mod report;
mod runner;
mod scenes;
mod server;
mod skip;
mod subject;
mod units;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use lab::examples::{self, Profile};
use lab::model::Workspace;
use lab::{build, process, program};
use nix::sys::prctl;
use trace::golden;

use case::{Step, Surroundings};
use redis::Redis;
use report::Report;
use scenes::Scenes;
use subject::Subject;

/// The longest time that a case waits for anything. It is generous, because
/// only a failing case waits that long.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the shared suite on the named models.
    Test {
        /// Models to test: `multiplexing-epoll`, or one variant,
        /// `multiplexing-epoll/edge` (default: all).
        models: Vec<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Build everything, then run the unit tests, and the suite on every model.
    TestAll {
        #[command(flatten)]
        options: Options,
    },
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Test { models, options } => test(&models, &options, false),
        Command::TestAll { options } => test(&[], &options, true),
    })
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Run only the cases whose full name contains this.
    #[arg(long, value_name = "FILTER")]
    case: Option<String>,
    /// List the cases without running them.
    #[arg(long)]
    list: bool,
    /// Number of cases to run in parallel; they mostly wait [default: four per
    /// CPU].
    #[arg(long, value_name = "N", default_value_t = default_jobs(),
          hide_default_value = true)]
    jobs: usize,
    /// Seed of the random streams: the same seed gives the same streams.
    #[arg(long, value_name = "N", default_value_t = 7379)]
    seed: u64,
    /// Show the N cases that took longest.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slowest: usize,
    /// Write the transcripts in xtask/trace/golden instead of comparing with
    /// them, and test client limits of the machine with as many clients as are
    /// declared.
    #[arg(long)]
    record: bool,
}

fn default_jobs() -> usize {
    4 * std::thread::available_parallelism().map_or(2, usize::from)
}

/// Builds the models that `names` select and runs the suite on them. With
/// `all`, runs the unit tests before it.
fn test(names: &[String], options: &Options, all: bool) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut subjects = Vec::new();
    for (model, variant) in workspace.select(names)? {
        subjects.push(Arc::new(Subject::new(&workspace, model, variant)));
    }
    let steps = runner::steps(&subjects, options.case.as_deref());
    if options.list {
        for step in steps {
            println!("{}", step.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let models = subjects.iter().map(|subject| &*subject.model.name);
    build::programs(&workspace, models)?;
    build_examples(&workspace, &steps)?;
    let units = all.then(|| units::run(&workspace)).transpose()?;
    let mut titles: Vec<_> =
        steps.iter().map(|step| step.subject.title()).collect();
    titles.dedup();
    let report = run(&workspace, &steps, options)?;
    Ok(report.print(&titles, units, options.slowest))
}

/// Builds the minimal programs that the steps start.
fn build_examples(workspace: &Workspace, steps: &[Step]) -> Result<()> {
    let steps = steps.iter().filter(|step| step.group == groups::MINIMAL);
    let mut subjects: Vec<_> = steps.map(|step| &step.subject).collect();
    subjects.dedup_by_key(|subject| subject.title());
    for subject in subjects {
        let Subject { model, minimal, minimal_datagrams, .. } = &**subject;
        for example in [minimal, minimal_datagrams].into_iter().flatten() {
            let name = &example.name;
            examples::build(workspace, model, name, Profile::Dev)?;
        }
    }
    Ok(())
}

fn run<'a>(
    workspace: &Workspace,
    steps: &'a [Step],
    options: &Options,
) -> Result<Report<'a>> {
    // Orphaned descendants become children of the suite, so that it can reap
    // them. They all end with the suite, see `lab::server::tie`.
    prctl::set_child_subreaper(true).context("PR_SET_CHILD_SUBREAPER")?;
    process::raise_descriptor_limit()?;
    let around = Arc::new(Surroundings {
        seed: options.seed,
        // Started on this thread, because it ends with the thread that starts
        // it.
        redis: Redis::start(),
        golden: golden::folder(workspace),
        scenes: Scenes::default(),
        records: options.record,
    });
    runner::run(steps, options.jobs, &around)
}
