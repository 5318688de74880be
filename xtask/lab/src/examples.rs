//! The examples of a model, among them its minimal programs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use camino::Utf8PathBuf;

use crate::model::{Model, Variant, Workspace};

impl Model {
    /// Returns the name of the example that is a variant's minimal program,
    /// without `.rs`: the variant's own, or for the first variant the model's.
    pub fn minimal(&self, variant: &Variant) -> Option<String> {
        let own = format!("minimal_{}", variant.name.replace('-', "_"));
        let is_first = self.variants[0].name == variant.name;
        let common = is_first.then_some("minimal".to_owned());
        let exists = |name: &String| self.example(name).exists();
        [Some(own), common].into_iter().flatten().find(exists)
    }

    /// Returns the path of an example's source file.
    pub fn example(&self, name: &str) -> Utf8PathBuf {
        self.folder.join("examples").join(format!("{name}.rs"))
    }
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
pub fn build(
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
    let copy = program(workspace, model, name, profile);
    if let Some(folder) = copy.parent() {
        fs::create_dir_all(folder)?;
    }
    // A running program can't be written to (ETXTBSY), but it can be removed.
    let _ = fs::remove_file(&copy);
    fs::copy(&built, &copy).with_context(|| format!("copying {built}"))?;
    Ok(())
}

/// Returns the path of a model's example once it is [built](build).
pub fn program(
    workspace: &Workspace,
    model: &Model,
    name: &str,
    profile: Profile,
) -> PathBuf {
    let folder = workspace.target.join("examples").join(profile.folder());
    folder.join(format!("{}-{name}", model.name)).into()
}
