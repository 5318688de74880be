//! `cargo xtask figure`: traces all models and draws them side by side, and
//! measures what happens to data that arrives while a program computes.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use compare::INTERRUPTED;
use lab::model::Workspace;
use lab::{build, process, screen};
use load::interrupt::{self, Interrupted};

use crate::survey::survey;
use crate::{calls, figure, traced};

/// Flags of `cargo xtask figure`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Also write the figure to an SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<Utf8PathBuf>,
}

/// Builds and traces all models, and shows the results. Returns exit code 130
/// after an interruption.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    match show(flags.svg.as_deref()) {
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(INTERRUPTED))
        }
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

/// Prints the table of system calls, and writes the page and, if a file is
/// named, the figure.
fn show(file: Option<&Utf8Path>) -> Result<()> {
    let workspace = Workspace::load()?;
    build::release(&workspace, &workspace.models)?;
    process::raise_descriptor_limit()?;
    interrupt::prepare()?;
    let models: Vec<_> = workspace.variants().collect();
    let survey = survey(&workspace, &models)?;
    screen::print(&calls::render(&survey, screen::width()))?;
    let record = claims::check_mechanisms()?;
    let folder = workspace.target.join("trace");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {folder}"))?;
    let page = folder.join("index.html");
    write(&page, &traced::render(&survey, &record))?;
    if let Some(file) = file {
        write(file, &figure::svg::alone(&survey.columns))?;
    }
    screen::print(&format!(
        "\nPage with the figure and all timelines: {page}\n"
    ))
}

fn write(file: &Utf8Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {file}"))
}
