//! `cargo xtask trace`: a model's system calls, as it makes them.

pub mod decode;
pub mod event;
mod memory;
mod names;
pub mod phases;
mod ring;
pub mod roles;
pub mod scene;
pub mod steps;
pub mod tracer;

use std::process::ExitCode;

use anyhow::Result;

use crate::model::{Transport, Workspace};
use crate::{build, list};

/// Flags of `cargo xtask trace`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Which model, and which variant of it unless the first.
    #[arg(value_name = "MODEL[/VARIANT]")]
    title: String,
    /// Ask by datagram instead of a stream.
    #[arg(long)]
    udp: bool,
}

pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let Some((model, variant)) = workspace.variant(&flags.title) else {
        eprintln!("error: no model is called {}\n", flags.title);
        eprint!("{}", list::catalogue(&workspace));
        return Ok(ExitCode::from(2));
    };
    let transport = if flags.udp { Transport::Udp } else { Transport::Tcp };
    let played =
        scene::play(&build::binary(&workspace, model), variant, transport)?;
    let steps = steps::steps(&played.trace.events);
    for step in &steps {
        if step.at < played.marks.connecting {
            continue;
        }
        let at = (step.at - played.marks.connecting).as_secs_f64() * 1e3;
        match &step.deed {
            steps::Deed::Call(call) => println!(
                "{at:8.3} {} {}({}) = {}",
                step.tid, call.name, call.arguments, call.outcome
            ),
            other => println!("{at:8.3} {} {other:?}", step.tid),
        }
    }
    println!("{:?}", phases::Phases::find(&steps, &played.marks));
    Ok(ExitCode::SUCCESS)
}
