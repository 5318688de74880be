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

/// A profile of cargo, in which examples are built.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// Returns the name of its folder in the target folder.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds a model's example, and copies it to a path of its own: most examples
/// are called `minimal`, and cargo builds all of them to the same path.
///
/// The command names the suite as well. It has no example, but it uses the
/// features of nix that the models use, so cargo builds nix and common once.
pub fn example(
    workspace: &Workspace,
    model: &Model,
    name: &str,
    profile: Profile,
) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--example", name]);
    cargo.args(["--package", &model.name, "--package", "xtask-suite"]);
    if let Profile::Release = profile {
        cargo.arg("--release");
    }
    cargo.current_dir(&workspace.root);
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build failed: {status}");
    let built = workspace.target.join(profile.folder()).join("examples");
    let built = built.join(name);
    let copy = example_program(workspace, model, name, profile);
    if let Some(folder) = copy.parent() {
        fs::create_dir_all(folder)?;
    }
    // A running program can't be written to (ETXTBSY), but it can be removed.
    let _ = fs::remove_file(&copy);
    fs::copy(&built, &copy).with_context(|| format!("copying {built}"))?;
    Ok(())
}

/// Returns the path of a model's example once it is [built](example).
pub fn example_program(
    workspace: &Workspace,
    model: &Model,
    name: &str,
    profile: Profile,
) -> PathBuf {
    let folder = workspace.target.join("examples").join(profile.folder());
    folder.join(format!("{}-{name}", model.name)).into()
}

/// Returns the path of a model's release binary.
pub fn binary(workspace: &Workspace, model: &Model) -> PathBuf {
    program(workspace, &model.name)
}

/// Returns the path of the release binary with this name.
pub fn program(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target.join("release").join(name).into()
}
