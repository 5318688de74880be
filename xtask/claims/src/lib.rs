//! `cargo xtask claims`: checks what is said about sockets and I/O models.
//! Each claim is an experiment in a file of its own.

pub mod claim;
mod document;
pub mod experiments;
mod kit;
pub mod record;
mod sample;
mod trial;
mod verdict;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use console::style;
use lab::model::{NotFound, Workspace};
use lab::table::{Column, Row, Table};
use lab::{Unsupported, build, number, screen};

use claim::{Claim, Effort, Finding, Verdict};
use experiments::copies::MECHANISMS;
use record::Record;

/// Flags of `cargo xtask claims`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Claims to check (default: all).
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// List the claims and their recorded verdicts, and run nothing.
    #[arg(long)]
    list: bool,
    /// Repeat each measurement less often: shows that all experiments run.
    #[arg(long)]
    short: bool,
    /// Record the findings, and write docs/CLAIMS.md and its figure from them.
    #[arg(long, conflicts_with_all = ["list", "short", "ids"])]
    pub record: bool,
    /// Add the findings to the page of the last `cargo xtask compare`.
    #[arg(long, conflicts_with = "list")]
    pub html: bool,
    /// Run one experiment in this process, and print its finding as TOML.
    #[arg(long, hide = true)]
    alone: bool,
}

/// The findings of one run of the command.
#[derive(Debug)]
pub struct Check {
    pub record: Record,
    skipped: usize,
    failed: usize,
    /// Verdicts that differ from the recorded ones.
    changed: usize,
}

/// Runs the experiments one after the other, and prints each finding when it
/// is there. Returns None if the flags ask for something else, which is done.
pub fn run(flags: &Flags) -> Result<Option<Check>> {
    let effort = if flags.short { Effort::Short } else { Effort::Full };
    let claims = select(&flags.ids)?;
    if flags.alone {
        ensure!(claims.len() == 1, "--alone runs one experiment");
        trial::alone(claims[0], effort)?;
        return Ok(None);
    }
    let recorded = Record::recorded()?;
    if flags.list {
        screen::print(&list(&claims, &recorded))?;
        return Ok(None);
    }
    if claims.iter().any(|claim| experiments::needs_models(claim)) {
        let workspace = Workspace::load()?;
        build::release(&workspace, &workspace.models)?;
    }
    let record = Record::here();
    let mut check = Check { record, skipped: 0, failed: 0, changed: 0 };
    for claim in claims {
        let line = check.run(claim, effort, &recorded);
        screen::print(&line)?;
    }
    Ok(Some(check))
}

/// Runs the experiments of the mechanisms that receive, which take 10 seconds.
/// Leaves out what this machine can't run.
pub fn check_mechanisms() -> Result<Record> {
    let mut record = Record::here();
    for mechanism in &MECHANISMS {
        match trial::run(mechanism.claim, Effort::Full) {
            Ok(finding) => record.insert(mechanism.claim, finding),
            Err(error) if error.is::<Unsupported>() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(record)
}

impl Check {
    /// Runs one experiment, and returns its report.
    fn run(
        &mut self,
        claim: &Claim,
        effort: Effort,
        recorded: &Record,
    ) -> String {
        match trial::run(claim, effort) {
            Ok(finding) => {
                let verdict = Verdict::new(finding.answer, claim.if_false);
                let before = recorded.verdict(claim);
                let change = before.filter(|before| *before != verdict);
                self.changed += usize::from(change.is_some());
                let report = report(claim, verdict, &finding, change);
                self.record.insert(claim, finding);
                report
            }
            Err(error) if error.is::<Unsupported>() => {
                self.skipped += 1;
                format!("{}: skipped: {error:#}\n\n", claim.id)
            }
            Err(error) => {
                self.failed += 1;
                format!("{}: failed: {error:#}\n\n", claim.id)
            }
        }
    }

    /// Saves the findings, and writes docs/CLAIMS.md.
    ///
    /// # Errors
    ///
    /// Not all experiments ran, or a file can't be written.
    pub fn save(&self) -> Result<()> {
        let missing = self.failed + self.skipped;
        ensure!(missing == 0, "not recorded: not all experiments ran");
        self.record.save()?;
        document::write(&self.record)
    }

    /// Prints how many experiments ran, and returns the command's exit code.
    pub fn conclude(&self) -> Result<ExitCode> {
        let Self { record, skipped, failed, changed } = self;
        let all = record.count() + skipped + failed;
        screen::print(&format!(
            "{}: {skipped} skipped, {failed} failed; {changed} verdicts \
             differ from the recorded ones\n",
            number::some(all, "experiment")
        ))?;
        Ok(match failed {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

/// Returns the claims with these IDs, or all.
fn select(ids: &[String]) -> Result<Vec<&'static Claim>> {
    if ids.is_empty() {
        return Ok(experiments::all().collect());
    }
    let find = |id: &String| match experiments::find(id) {
        Some(claim) => Ok(claim),
        None => bail!(NotFound(format!(
            "there is no claim {id:?}: `cargo xtask claims --list` lists them"
        ))),
    };
    ids.iter().map(find).collect()
}

fn list(claims: &[&Claim], recorded: &Record) -> String {
    let row = |claim: &&Claim| {
        let verdict = recorded.verdict(claim);
        let verdict = verdict.map_or("not recorded".to_owned(), coloured);
        Row {
            cells: vec![claim.id.to_owned(), verdict],
            text: claim.claim.to_owned(),
        }
    };
    let table = Table {
        columns: vec![Column::left("ID"), Column::left("RECORDED")],
        text: "CLAIM".to_owned(),
        rows: claims.iter().map(row).collect(),
    };
    table.render(screen::width())
}

fn coloured(verdict: Verdict) -> String {
    let text = style(verdict.to_string());
    match verdict {
        Verdict::Holds => text.green(),
        Verdict::NoLongerHolds | Verdict::NeverHeld => text.red(),
        Verdict::Depends => text.yellow(),
        Verdict::Undecided => text.dim(),
    }
    .to_string()
}

/// Formats a finding: the claim, the verdict, the numbers, the reason.
fn report(
    claim: &Claim,
    verdict: Verdict,
    finding: &Finding,
    recorded: Option<Verdict>,
) -> String {
    let width = screen::width().unwrap_or(80).min(100);
    let block = |text: &str| {
        let lines = screen::wrap(text, width - 4);
        lines.iter().map(|line| format!("    {line}\n")).collect::<String>()
    };
    let mut text = format!("{}: {}", style(claim.id).bold(), coloured(verdict));
    if let Some(before) = recorded {
        text += &format!(" (recorded: {before})");
    }
    text.push('\n');
    text += &block(claim.claim);
    for figure in &finding.figures {
        text += &block(&format!("{}: {}", figure.name, figure.value()));
    }
    text += &block(claim.explanation);
    text.push('\n');
    text
}
