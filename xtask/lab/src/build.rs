//! Builds models with cargo and says where the binaries are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::camino::Utf8PathBuf;

use crate::model::{Model, Workspace};

/// Builds the models' release binaries; cargo's own progress and errors go to
/// standard error.
///
/// The whole workspace is named although only some binaries are wanted: cargo
/// unites the features of a dependency over the packages that are named, so
/// each selection of models would build its own nix and its own common.
pub fn release(workspace: &Workspace, models: &[Model]) -> Result<()> {
    if models.is_empty() {
        // Cargo would build everything.
        return Ok(());
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--workspace"]);
    for model in models {
        cargo.args(["--bin", &model.name]);
    }
    run(cargo, workspace)
}

/// Builds this program as one that measures, and says where it is.
pub fn tool(workspace: &Workspace) -> Result<Utf8PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", "tool", "--locked"]);
    cargo.args(["--package", "xtask"]);
    run(cargo, workspace)?;
    Ok(workspace.target.join("tool").join("xtask"))
}

fn run(mut cargo: Command, workspace: &Workspace) -> Result<()> {
    cargo.current_dir(&workspace.root);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed: {status}");
    Ok(())
}

/// Where cargo puts a model's release binary.
pub fn binary(workspace: &Workspace, model: &Model) -> PathBuf {
    workspace.target.join("release").join(&model.name).into()
}
