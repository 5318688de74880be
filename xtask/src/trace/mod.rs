//! `cargo xtask trace`: a model's system calls, as it makes them.
//!
//! [`tracer`] sees events, [`steps`] puts them into words, [`phases`] finds
//! the two phases in them, and [`timeline`] makes lines of them.

pub mod all;
pub mod call;
pub mod calls;
mod copying;
mod count;
mod counter;
pub mod decode;
pub mod event;
pub mod figure;
mod fold;
pub mod golden;
pub mod host;
mod lines;
mod memory;
mod names;
pub mod page;
pub mod phases;
mod remote;
mod render;
mod rest;
mod ring;
pub mod role;
mod roles;
pub mod rules;
pub mod scene;
#[cfg(test)]
pub mod script;
pub mod steps;
mod stops;
pub mod survey;
mod table;
#[cfg(test)]
pub mod tape;
pub mod timeline;
pub mod tracer;
pub mod transcript;
pub mod values;

use std::fs::File;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cargo_metadata::camino::Utf8PathBuf;

use crate::compare::INTERRUPTED;
use crate::compare::interrupt::Interrupted;
use crate::model::{Model, Transport, Variant, Workspace};
use crate::server::CANNOT_RUN_HERE;
use crate::{build, list, screen};
use call::CallStep;
use event::Refusal;
use phases::Phases;
use steps::Step;
use timeline::{Detail, Timeline};

/// Flags of `cargo xtask trace`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Which model, and which variant of it unless the first.
    #[arg(value_name = "MODEL[/VARIANT]", required_unless_present = "all")]
    title: Option<String>,
    /// All models side by side, and how many system calls a request takes.
    #[arg(long, conflicts_with_all = ["title", "udp", "raw"])]
    all: bool,
    /// Ask by datagram instead of a stream.
    #[arg(long)]
    udp: bool,
    /// With --all: draw how they wait into a file.
    #[arg(long, value_name = "FILE", requires = "all")]
    svg: Option<Utf8PathBuf>,
    /// Every call from the first to the last, nothing folded.
    #[arg(long)]
    raw: bool,
}

/// Ends with exit code 2 where no such model is, or it does not serve the
/// transport, and with 77 where the machine does not let us trace, or the
/// kernel can't run the model.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if let Some(file) = &flags.svg {
        // Before a build that takes its time.
        File::create(file).with_context(|| format!("cannot write {file}"))?;
    }
    let Some(title) = &flags.title else {
        return refusable(all::run(&workspace, flags.svg.as_deref()));
    };
    let Some((model, variant)) = workspace.variant(title) else {
        return Ok(list::unknown(&workspace, title));
    };
    let transport = if flags.udp { Transport::Udp } else { Transport::Tcp };
    if let Some(why) = model.unserved(variant, transport) {
        eprintln!("error: {why}");
        return Ok(ExitCode::from(2));
    }
    build::release(&workspace, std::slice::from_ref(model))?;
    refusable(show(&workspace, model, variant, transport, flags))
}

/// Turns a refusal and an interruption into exit codes of their own.
fn refusable(result: Result<()>) -> Result<ExitCode> {
    match result {
        Err(error) if error.is::<Refusal>() => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(CANNOT_RUN_HERE as u8))
        }
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(INTERRUPTED))
        }
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn show(
    workspace: &Workspace,
    model: &Model,
    variant: &Variant,
    transport: Transport,
    flags: &Flags,
) -> Result<()> {
    let program = build::binary(workspace, model);
    let scene = scene::play(&program, variant, transport)?;
    let phases = Phases::find(&scene);
    let phases = phases.context("the trace does not show the request")?;
    let buffer = buffer(&scene.steps[phases.copier]);
    let copying = copying::measure(phases.bytes, buffer)?;
    let detail = if flags.raw { Detail::Raw } else { Detail::Scene };
    let timeline = Timeline::new(&scene, Some(copying), detail);
    let text = render::render(&timeline, screen::width());
    screen::print(&text)
}

/// As many bytes as a receiving call has room for, where it says so.
fn buffer(step: &Step) -> usize {
    const USUAL: usize = 16 * 1024;
    let room = step.call().and_then(CallStep::room);
    room.and_then(|room| usize::try_from(room).ok()).unwrap_or(USUAL)
}
