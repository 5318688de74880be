//! `cargo xtask trace`: shows a model's system calls.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use lab::model::{Transport, Workspace};
use lab::{build, program, screen};
use trace::call::CallStep;
use trace::phases::Phases;
use trace::steps::Step;
use trace::timeline::{Detail, Timeline};
use trace::{copying, render, scene};

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a model's system calls while it answers one request.
    Trace(Flags),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Trace(flags) => run(&flags),
    })
}

/// Flags of `cargo xtask trace`.
#[derive(Debug, clap::Args)]
struct Flags {
    /// Model, optionally with a variant (default: the model's first).
    #[arg(value_name = "MODEL[/VARIANT]")]
    title: String,
    /// Send the request in a datagram instead of over a stream.
    #[arg(long)]
    udp: bool,
    /// Show every call from the first to the last, without folding.
    #[arg(long)]
    raw: bool,
}

/// Exits with code 2 if there is no such model or it does not serve the
/// transport, and with 77 if the machine forbids tracing or the kernel can't
/// run the model.
fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let transport = if flags.udp { Transport::Udp } else { Transport::Tcp };
    let (model, variant) = workspace.serving(&flags.title, transport)?;
    build::release(&workspace, std::slice::from_ref(model))?;
    let program = build::binary(&workspace, model);
    let scene = scene::play(&program, &variant.args, transport)?;
    let phases = Phases::find(&scene);
    let phases = phases.context("the trace does not show the request")?;
    let buffer = buffer(&scene.steps[phases.copier]);
    let copying = copying::measure(phases.bytes, buffer)?;
    let detail = if flags.raw { Detail::Raw } else { Detail::Scene };
    let timeline = Timeline::new(&scene, Some(copying), detail);
    screen::print(&render::render(&timeline, screen::width()))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns how many bytes a receiving call has room for, or the usual number if
/// the call does not specify it.
fn buffer(step: &Step) -> usize {
    const USUAL: usize = 16 * 1024;
    let room = step.call().and_then(CallStep::room);
    room.and_then(|room| usize::try_from(room).ok()).unwrap_or(USUAL)
}
