//! Builds the models with cargo, and finds their binaries.

use std::fs;
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
/// needed: cargo unifies the features of a dependency over the named packages,
/// so each selection of models would build its own nix and its own common.
pub fn programs<'a>(
    workspace: &Workspace,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let mut names = names.into_iter().peekable();
    if names.peek().is_none() {
        // Cargo would build everything.
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

/// Builds an example of a model for development, and copies it to a path of its
/// own: most examples are called `minimal`, and cargo builds all of these to
/// one path.
///
/// The command names the suite too. It has no example, but it uses the
/// features of nix that the models use, so that cargo builds nix and common
/// once for all.
pub fn example(workspace: &Workspace, model: &Model, name: &str) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--example", name]);
    cargo.args(["--package", &model.name, "--package", "xtask-suite"]);
    cargo.current_dir(&workspace.root);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed: {status}");
    let built = workspace.target.join("debug/examples").join(name);
    let copy = example_program(workspace, model, name);
    if let Some(folder) = copy.parent() {
        fs::create_dir_all(folder)?;
    }
    // A program that runs can't be written to, but removed.
    let _ = fs::remove_file(&copy);
    fs::copy(&built, &copy).with_context(|| format!("copying {built}"))?;
    Ok(())
}

/// The path of a model's example, once it is [built](example).
pub fn example_program(
    workspace: &Workspace,
    model: &Model,
    name: &str,
) -> PathBuf {
    let folder = workspace.target.join("examples");
    folder.join(format!("{}-{name}", model.name)).into()
}

/// The path of a model's release binary.
pub fn binary(workspace: &Workspace, model: &Model) -> PathBuf {
    program(workspace, &model.name)
}

/// The path of the release binary with this name.
pub fn program(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target.join("release").join(name).into()
}
