//! `cargo xtask list`: the models, and whether each runs on this machine.

mod here;
mod render;

use std::process::ExitCode;

use anyhow::Result;
use lab::model::{Model, Variant, Workspace};
use lab::{build, screen};

use here::{Here, try_to_run};
use render::render;

/// Flags of `cargo xtask list`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Build the models first (default: try only models already built).
    #[arg(long)]
    build: bool,
}

/// One line of the list: a variant of a model.
#[derive(Debug)]
struct Entry<'a> {
    model: &'a Model,
    variant: &'a Variant,
    here: Here,
}

pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if flags.build {
        build::release(&workspace, &workspace.models)?;
    }
    let mut entries = Vec::new();
    for model in &workspace.models {
        let binary = build::binary(&workspace, model);
        entries.extend(model.variants.iter().map(|variant| Entry {
            model,
            variant,
            here: try_to_run(&binary, variant, model.transports_of(variant)),
        }));
    }
    screen::print(&render(&entries, screen::width()))?;
    let fails = entries.iter().any(|e| matches!(e.here, Here::Fails(_)));
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
