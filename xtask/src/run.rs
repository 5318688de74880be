//! Builds one model and runs it.

use std::process::ExitCode;

/// Flags of `cargo xtask run`.
#[derive(Debug, clap::Args)]
pub struct Flags {}

pub fn run(_flags: &Flags) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
