//! Two models side by side.

use std::process::ExitCode;

/// Flags of `cargo xtask diff`.
#[derive(Debug, clap::Args)]
pub struct Flags {}

pub fn run(_flags: &Flags) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
