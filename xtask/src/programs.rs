//! The subcommands that are programs of their own: this program replaces itself
//! by cargo, which builds and runs them.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// Arguments that the program itself will parse, `--help` included.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    all: Vec<OsString>,
}

/// Replaces this process by `cargo run`, which replaces itself by the program,
/// so that signals reach it and its exit code is ours. Returns only if cargo
/// can't be started.
pub fn start(
    part: &str,
    subcommand: &str,
    arguments: &Arguments,
) -> Result<ExitCode> {
    let package = format!("xtask-{part}");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--locked", "--package", &package]);
    let me = env::current_exe().context("this program's path")?;
    if me.with_file_name(&package).exists() {
        // The first build takes a while, and cargo shows how far it is.
        cargo.arg("--quiet");
    }
    cargo.arg("--").arg(subcommand).args(&arguments.all);
    Err(cargo.exec()).with_context(|| format!("cannot start {cargo:?}"))
}
