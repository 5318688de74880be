//! `cargo xtask claims`: checks what is said about sockets and I/O models.
//! Each claim is an experiment in a file of its own.

mod claim;
mod document;
mod experiments;
mod kit;
mod record;
mod sample;
mod trial;
mod verdict;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use console::style;
use lab::model::NotFound;
use lab::table::{Column, Row, Table};
use lab::{Unsupported, number, program, screen};

use claim::{Claim, Effort, Verdict};
use record::Record;

#[derive(Debug, Subcommand)]
enum Command {
    /// Check claims about sockets and I/O models by experiments.
    Claims(Flags),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Claims(flags) => run(&flags),
    })
}

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
    /// Record the findings, and write docs/CLAIMS.md from them.
    #[arg(long, conflicts_with_all = ["list", "short", "ids"])]
    record: bool,
    /// Run one experiment in this process, and print its finding as TOML.
    #[arg(long, hide = true)]
    alone: bool,
}

fn run(flags: &Flags) -> Result<ExitCode> {
    let effort = if flags.short { Effort::Short } else { Effort::Full };
    let claims = select(&flags.ids)?;
    if flags.alone {
        ensure!(claims.len() == 1, "--alone runs one experiment");
        return trial::alone(claims[0], effort);
    }
    let recorded = Record::recorded()?;
    if flags.list {
        screen::print(&list(&claims, &recorded))?;
        return Ok(ExitCode::SUCCESS);
    }
    check(&claims, effort, &recorded, flags.record)
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

/// Runs the experiments one after the other, and prints each finding when it
/// is there.
fn check(
    claims: &[&'static Claim],
    effort: Effort,
    recorded: &Record,
    keep: bool,
) -> Result<ExitCode> {
    let mut found = Record::here();
    let (mut skipped, mut failed, mut changed) = (0, 0, 0);
    for &claim in claims {
        match trial::run(claim, effort) {
            Ok(finding) => {
                let verdict = Verdict::new(finding.answer, claim.if_false);
                let before = recorded.verdict(claim);
                let change = before.filter(|before| *before != verdict);
                changed += usize::from(change.is_some());
                screen::print(&report(claim, verdict, &finding, change))?;
                found.insert(claim, finding);
            }
            Err(error) if error.is::<Unsupported>() => {
                skipped += 1;
                screen::print(&format!(
                    "{}: skipped: {error:#}\n\n",
                    claim.id
                ))?;
            }
            Err(error) => {
                failed += 1;
                screen::print(&format!("{}: failed: {error:#}\n\n", claim.id))?;
            }
        }
    }
    if keep {
        ensure!(failed + skipped == 0, "not recorded: not all experiments ran");
        found.save()?;
        fs::write(document::PATH, document::document(&found))
            .context(document::PATH)?;
    }
    let experiments = number::some(claims.len(), "experiment");
    screen::print(&format!(
        "{experiments}: {skipped} skipped, {failed} failed; {changed} verdicts \
         differ from the recorded ones\n"
    ))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Formats a finding: the claim, the verdict, the numbers, the reason.
fn report(
    claim: &Claim,
    verdict: Verdict,
    finding: &claim::Finding,
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
