//! `cargo xtask list`: the models, and what each can do here.

mod here;
mod render;

use std::process::ExitCode;

use anyhow::Result;
use lab::ceilings::{Ceiling, Ceilings};
use lab::model::{Clients, Model, Transport, Variant, Workspace};
use lab::{build, screen};
use serde::Serialize;

use here::{Here, try_to_run};
use render::render;

/// Flags of `cargo xtask list`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Build the models first; otherwise those built before are started.
    #[arg(long)]
    build: bool,
    /// Print JSON: an array with one object for each variant.
    #[arg(long)]
    json: bool,
}

/// One line of the list: a variant of a model.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    family: &'a str,
    clients: Clients,
    /// Where the suite found it to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling: Option<&'a Ceiling>,
    transports: &'a [Transport],
    /// Flags with which it rests while idle, if it does not without.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    rests_with: &'a [String],
    /// Why the variant serves fewer transports than the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    summary: &'a str,
    here: Here,
}

pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if flags.build {
        build::release(&workspace, &workspace.models)?;
    }
    let ceilings = Ceilings::load(&workspace)?;
    let entries = entries(&workspace, &ceilings, |model, variant| {
        let binary = build::binary(&workspace, model);
        try_to_run(&binary, variant, model.transports_of(variant))
    });
    if flags.json {
        screen::print(&(serde_json::to_string_pretty(&entries)? + "\n"))?;
    } else {
        screen::print(&render(&entries, screen::width()))?;
    }
    let fails = entries.iter().any(|e| matches!(e.here, Here::Fails(_)));
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn entries<'a>(
    workspace: &'a Workspace,
    ceilings: &'a Ceilings,
    here: impl Fn(&Model, &Variant) -> Here,
) -> Vec<Entry<'a>> {
    let of_model = |model| entries_of(model, ceilings, &here);
    workspace.models.iter().flat_map(of_model).collect()
}

fn entries_of<'a>(
    model: &'a Model,
    ceilings: &'a Ceilings,
    here: &impl Fn(&Model, &Variant) -> Here,
) -> Vec<Entry<'a>> {
    let entry = |variant: &'a Variant| Entry {
        model: &model.name,
        variant: &variant.name,
        family: &model.family,
        clients: model.clients,
        ceiling: ceilings.of(&model.title(variant)),
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

    /// How many clients it serves: the number that was found, or roughly.
    fn places(&self) -> String {
        let roughly = || self.clients.to_string();
        self.ceiling.map_or_else(roughly, Ceiling::to_string)
    }
}
