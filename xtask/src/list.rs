//! The models, and what each can do here.

use std::process::ExitCode;

/// Flags of `cargo xtask list`.
#[derive(Debug, clap::Args)]
pub struct Flags {}

pub fn run(_flags: &Flags) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
