//! Builds the models with cargo, and finds their binaries.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::model::{Model, Workspace};

/// Builds the models' release binaries.
pub fn release(workspace: &Workspace, models: &[Model]) -> Result<()> {
    programs(workspace, models.iter().map(|model| model.name.as_str()))
}

/// Builds the release binaries with these names. Cargo's own progress and
/// errors go to standard error.
///
/// The command names the whole workspace although only some binaries are
/// needed. Cargo unifies the features of a dependency over the named packages,
/// so each selection of models would rebuild nix and common.
pub fn programs<'a>(
    workspace: &Workspace,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let mut names = names.into_iter().peekable();
    if names.peek().is_none() {
        // Without names, cargo would build everything.
        return Ok(());
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--workspace"]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    cargo.current_dir(&workspace.root);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed: {status}");
    Ok(())
}

/// Returns the path of a model's release binary.
pub fn binary(workspace: &Workspace, model: &Model) -> PathBuf {
    program(workspace, &model.name)
}

/// Returns the path of the release binary with this name.
pub fn program(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target.join("release").join(name).into()
}
