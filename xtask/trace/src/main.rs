//! `cargo xtask trace`: a model's system calls, as it makes them.
//!

use std::fs::File;
use std::process::ExitCode;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::Subcommand;
use lab::Unsupported;
use lab::model::{Model, Transport, Variant, Workspace};
use lab::{build, program, screen};
use trace::phases::Phases;
use trace::steps::Step;
use trace::timeline::{Detail, Timeline};
use trace::tracer::Refused;
use trace::{copying, render, scene, steps, svg};

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
pub struct Flags {
    /// Which model, and which variant of it unless the first.
    #[arg(value_name = "MODEL[/VARIANT]")]
    title: String,
    /// Ask by datagram instead of a stream.
    #[arg(long)]
    udp: bool,
    /// Draw the timeline into a file as well.
    #[arg(long, value_name = "FILE")]
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
    let (model, variant) = workspace.variant(&flags.title)?;
    let transport = if flags.udp { Transport::Udp } else { Transport::Tcp };
    if let Some(why) = model.unserved(variant, transport) {
        eprintln!("error: {why}");
        return Ok(ExitCode::from(2));
    }
    build::release(&workspace, std::slice::from_ref(model))?;
    refusable(show(&workspace, model, variant, transport, flags))
}

/// What this machine does not allow has an exit code of its own.
fn refusable(result: Result<()>) -> Result<ExitCode> {
    match result {
        Err(error) if error.is::<Refused>() => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(Unsupported::CODE))
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
    let played = scene::play(&program, &variant.args, transport)?;
    let steps = steps::steps(&played.trace.events);
    let phases = Phases::find(&steps, &played.marks);
    let phases = phases.context("the trace does not show the request")?;
    let buffer = buffer(&steps[phases.copier]);
    let copying = copying::measure(phases.bytes, buffer)?;
    let detail = if flags.raw { Detail::Raw } else { Detail::Scene };
    let timeline = Timeline::new(&steps, &played.marks, Some(copying), detail);
    if let Some(file) = &flags.svg {
        let title =
            format!("{}, {transport}: one request", model.title(variant));
        std::fs::write(file, svg::draw(&timeline, &title))
            .with_context(|| format!("cannot write {file}"))?;
    }
    let text = render::render(&timeline, screen::width());
    screen::print(&text)
}

/// As many bytes as a receiving call has room for, where it says so.
fn buffer(step: &Step) -> usize {
    const USUAL: usize = 16 * 1024;
    let size = step.call().and_then(|call| {
        call.arguments.split(", ").nth(1).and_then(|it| it.parse().ok())
    });
    size.unwrap_or(USUAL)
}
