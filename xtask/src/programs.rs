//! The subcommands that are programs of their own: cargo builds what is not
//! up to date, and runs it in this program's place.

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

/// Becomes `cargo run`, which becomes the program: signals reach it, and its
/// exit code is ours. Returns only where cargo can't be started.
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
