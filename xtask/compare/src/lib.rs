//! `cargo xtask compare`: measures every model under the same load.
//!
//! METHODOLOGY.md describes the measurements and their limits.

mod abreast;
mod check;
pub mod columns;
pub mod contender;
mod environment;
mod flags;
mod markdown;
pub mod pairs;
pub mod pick;
mod plan;
mod raw;
pub mod remark;
pub mod results;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
mod serving;
pub mod spread;
pub mod stevens;
pub mod summary;
pub mod table;
mod trial;
mod usage;
pub mod workload;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use lab::examples::{self, Profile};
use lab::model::{Model, Variant, Workspace};
use lab::{build, process, screen};
use load::interrupt;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

pub use flags::Flags;

use contender::Contender;
use pairs::Pairs;
use plan::Plan;
use results::{Outcome, Results, Run};
use trial::Processors;

const ENVIRONMENT: &str = "environment.txt";
pub const PAGE: &str = "index.html";
pub const CHART: &str = "chart.svg";

/// The files that the folder contains at the end.
const FILES: [&str; 6] =
    [raw::FILE, raw::PAIRS, ENVIRONMENT, PAGE, CHART, markdown::FILE];

/// Exit code after Ctrl-C, as in shells: 128 plus the signal's number.
pub const INTERRUPTED: u8 = 130;

/// The fewest runs that show a spread.
const RUNS_MIN: usize = 3;

/// A comparison, complete or interrupted.
#[derive(Debug)]
pub struct Comparison {
    pub workspace: Workspace,
    /// Empty if only pairs were measured.
    pub results: Results,
    pub pairs: Option<Pairs>,
    /// The folder for all output files.
    pub folder: Utf8PathBuf,
    contenders: Vec<Contender>,
    processors: Processors,
    carried_out: Result<()>,
    is_check: bool,
    traces: bool,
    _alone: Flock<File>,
}

/// Returns the folder that contains the files of the last comparison.
pub fn folder(workspace: &Workspace) -> Utf8PathBuf {
    workspace.target.join("compare")
}

/// Builds and measures. An error while measuring is stored in the comparison,
/// so that the results before it can be shown.
pub fn measure(flags: &Flags) -> Result<Comparison> {
    let workspace = Workspace::load()?;
    let plan = flags.plan(&workspace)?;
    let pairs = flags.pairs(&workspace)?;
    let plans: Vec<_> =
        plan.iter().chain(pairs.iter().map(|(_, plan)| plan)).collect();
    let folder = folder(&workspace);
    let announcements = plans.iter().map(|plan| plan.announcement());
    let announcement: String = announcements.collect();
    let mut done = carry_out(&workspace, &plans, &folder, &announcement)?;
    let pairs = pairs.and_then(|(other, _)| {
        Some(Pairs { other, results: done.results.pop()? })
    });
    let mut results = done.results.pop().unwrap_or_default();
    let of_pairs = pairs.iter().flat_map(|it| &it.results.environment);
    for fact in of_pairs {
        if !results.environment.contains(fact) {
            results.environment.push(fact.clone());
        }
    }
    Ok(Comparison {
        workspace,
        results,
        pairs,
        folder,
        contenders: plan.map_or(Vec::new(), |plan| plan.contenders),
        processors: done.processors,
        carried_out: done.carried_out,
        is_check: flags.is_check(),
        traces: flags.traces(),
        _alone: done.alone,
    })
}

/// The results of plans that were carried out.
struct Done {
    /// One for each plan.
    results: Vec<Results>,
    processors: Processors,
    carried_out: Result<()>,
    alone: Flock<File>,
}

/// Builds the servers and carries out plans, with their files in `folder`.
fn carry_out(
    workspace: &Workspace,
    plans: &[&Plan],
    folder: &Utf8Path,
    announcement: &str,
) -> Result<Done> {
    build(workspace, plans.iter().flat_map(|plan| &plan.contenders))?;
    process::raise_descriptor_limit()?;
    interrupt::prepare()?;
    let alone = take(folder)?;
    screen::print(announcement)?;
    let processors = place_apart()?;
    let environment = environment::describe(workspace, processors);
    let mut carried_out = Ok(());
    let results = plans.iter().map(|plan| {
        let mut results = plan.start(environment.clone());
        if carried_out.is_ok() {
            carried_out = plan.carry_out(&mut results, processors, folder);
        }
        results
    });
    let results = results.collect();
    Ok(Done { results, processors, carried_out, alone })
}

impl Comparison {
    /// Returns whether to trace the models as well: everything was measured,
    /// and the flags allow it.
    pub fn is_traced(&self) -> bool {
        let is_whole = self.carried_out.is_ok() && self.missing() == 0;
        let has_models = !self.contenders.is_empty();
        is_whole && has_models && self.traces
    }

    /// Returns the number of runs that an interruption prevented.
    fn missing(&self) -> usize {
        let pairs = self.pairs.as_ref().map_or(0, |it| it.results.missing);
        self.results.missing + pairs
    }

    /// Returns the names of the files with all runs.
    pub fn run_files(&self) -> Vec<&'static str> {
        let mut files = Vec::new();
        if !self.contenders.is_empty() {
            files.push(raw::FILE);
        }
        if self.pairs.is_some() {
            files.push(raw::PAIRS);
        }
        files
    }

    /// Returns the models that were measured.
    pub fn models(&self) -> Vec<(&Model, &Variant)> {
        self.contenders.iter().filter_map(Contender::variant).collect()
    }

    /// Lets this process run on all processors again.
    pub fn leave_processor(&self) -> Result<()> {
        let mut both = self.processors.servers.unwrap_or_default();
        both.set(self.processors.generator).context("a processor")?;
        sched_setaffinity(Pid::from_raw(0), &both).context("sched_setaffinity")
    }

    /// Writes the environment and prints the tables, also after an
    /// interruption.
    pub fn show(&self) -> Result<()> {
        let (results, pairs) = (&self.results, self.pairs.as_ref());
        let lines = results.environment.iter();
        let lines = lines.map(|(name, value)| format!("{name}: {value}\n"));
        self.write(ENVIRONMENT, &lines.collect::<String>())?;
        self.write(markdown::FILE, &markdown::render(results, pairs))?;
        let width = screen::width();
        let tables = table::render(results, width);
        let pairs = pairs.map_or(String::new(), |it| it.render(width));
        let gap = if tables.is_empty() || pairs.is_empty() { "" } else { "\n" };
        screen::print(&format!("{tables}{gap}{pairs}"))
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {path}"))
    }

    /// Returns the command's exit code or error.
    pub fn conclude(self) -> Result<ExitCode> {
        self.carried_out?;
        if self.is_check {
            let models =
                self.contenders.iter().filter(|it| it.model().is_some());
            let titles: Vec<_> = models.map(|it| it.title.clone()).collect();
            let pairs = self.pairs.context("no pairs")?;
            let passing_on = check::passing_on(&self.workspace);
            let results = &self.results;
            return check::judge(results, &titles, &pairs, &passing_on);
        }
        let pairs = self.pairs.map(|pairs| pairs.results);
        let all: Vec<_> = [self.results].into_iter().chain(pairs).collect();
        exit_code(&all)
    }
}

/// Fails if a run failed. A load that a server doesn't support is no failure.
fn exit_code(results: &[Results]) -> Result<ExitCode> {
    if results.iter().any(|results| results.missing > 0) {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let failed = |run: &&Run| matches!(run.outcome, Outcome::Failed(_));
    let runs = results.iter().flat_map(|results| &results.runs);
    match runs.filter(failed).count() {
        0 => Ok(ExitCode::SUCCESS),
        1 => bail!("a run failed"),
        failed => bail!("{failed} runs failed"),
    }
}

/// Builds the models, the bare loop, and the minimal programs.
fn build<'a>(
    workspace: &Workspace,
    contenders: impl Iterator<Item = &'a Contender> + Clone,
) -> Result<()> {
    let models = contenders.clone().filter_map(Contender::model);
    let names: BTreeSet<_> = models.map(|it| it.name.as_str()).collect();
    build::programs(workspace, names.into_iter().chain([contender::BARE]))?;
    for (model, name) in contenders.filter_map(Contender::example) {
        examples::build(workspace, model, name, Profile::Release)?;
    }
    Ok(())
}

/// Pins the generator to the last processor; the servers get the others.
fn place_apart() -> Result<Processors> {
    let me = Pid::from_raw(0);
    let mine = process::allowed_processors(
        nix::unistd::getpid(),
        nix::unistd::gettid(),
    )?;
    let Some((last, others)) = mine.split_last() else {
        bail!("/proc lists no allowed processor");
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

/// Locks the folder, because two simultaneous comparisons would disturb each
/// other. Removes an earlier comparison's files, because new figures beside an
/// old page would mislead.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_fails_the_command() {
        let mut results = sample::of_costs(&[("ping-50", "a", &[3.0; 3])]);
        assert_eq!(
            exit_code(std::slice::from_ref(&results)).unwrap(),
            ExitCode::SUCCESS
        );
        let why = "no io_uring".to_owned();
        results.runs[0].outcome = Outcome::Cannot { why, held: None };
        assert_eq!(
            exit_code(std::slice::from_ref(&results)).unwrap(),
            ExitCode::SUCCESS
        );
        results.runs[1].outcome = Outcome::Failed("a wrong reply".to_owned());
        let error =
            exit_code(std::slice::from_ref(&results)).unwrap_err().to_string();
        assert_eq!(error, "a run failed");
        results.missing = 1;
        let interrupted = ExitCode::from(INTERRUPTED);
        assert_eq!(
            exit_code(std::slice::from_ref(&results)).unwrap(),
            interrupted
        );
    }
}
