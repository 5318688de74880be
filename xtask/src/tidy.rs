//! The repository's rules, as a check.

use std::process::ExitCode;

/// Flags of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub struct Flags {}

pub fn run(_flags: &Flags) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
