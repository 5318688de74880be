//! Starts the subcommands that are separate programs: this program replaces
//! itself with cargo, which builds and runs them.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// Arguments passed on unparsed, `--help` included.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    all: Vec<OsString>,
}

/// Replaces this process with `cargo run`, which replaces itself with the
/// program, so that signals reach the program and its exit code is ours.
/// Returns only if cargo can't be started.
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
        // The first build takes a while, so cargo shows its progress then.
        cargo.arg("--quiet");
    }
    cargo.arg("--").arg(subcommand).args(&arguments.all);
    Err(cargo.exec()).with_context(|| format!("cannot start {cargo:?}"))
}
