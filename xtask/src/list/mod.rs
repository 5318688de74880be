//! `cargo xtask list`: the models, and what each can do here.

mod here;
mod render;

use std::process::ExitCode;

use anyhow::Result;
use lab::model::{Family, Model, Transport, Variant, Workspace};
use lab::promises::Ceiling;
use lab::{build, screen};

use here::{Here, try_to_run};
use render::render;

/// Flags of `cargo xtask list`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Build the models first; otherwise those built before are started.
    #[arg(long)]
    build: bool,
}

/// One line of the list: a variant of a model.
#[derive(Debug)]
struct Entry<'a> {
    model: &'a str,
    variant: &'a str,
    family: Family,
    ceiling: &'a Ceiling,
    transports: &'a [Transport],
    /// Flags with which it rests while idle, if it does not without.
    rests_with: &'a [String],
    /// Why the variant serves fewer transports than the model.
    why: Option<&'a str>,
    summary: &'a str,
    here: Here,
}

pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if flags.build {
        build::release(&workspace, &workspace.models)?;
    }
    let entries = entries(&workspace, |model, variant| {
        let binary = build::binary(&workspace, model);
        try_to_run(&binary, variant, model.transports_of(variant))
    });
    screen::print(&render(&entries, screen::width()))?;
    let fails = entries.iter().any(|e| matches!(e.here, Here::Fails(_)));
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn entries<'a>(
    workspace: &'a Workspace,
    here: impl Fn(&Model, &Variant) -> Here,
) -> Vec<Entry<'a>> {
    let of_model = |model| entries_of(model, &here);
    workspace.models.iter().flat_map(of_model).collect()
}

fn entries_of<'a>(
    model: &'a Model,
    here: &impl Fn(&Model, &Variant) -> Here,
) -> Vec<Entry<'a>> {
    let entry = |variant: &'a Variant| Entry {
        model: &model.name,
        variant: &variant.name,
        family: model.family,
        ceiling: &variant.promises.ceiling,
        rests_with: &model.rests_with,
        transports: model.transports_of(variant),
        why: variant.why.as_deref(),
        summary: &model.summary,
        here: here(model, variant),
    };
    model.variants.iter().map(entry).collect()
}

impl Entry<'_> {
    fn title(&self) -> String {
        match self.variant {
            "" => self.model.to_owned(),
            variant => format!("{}/{variant}", self.model),
        }
    }
}
