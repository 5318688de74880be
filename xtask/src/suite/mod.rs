//! The shared suite: one set of cases for every model and variant.

use std::process::ExitCode;

/// What to test.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Models to test, all of them when none is named.
    models: Vec<String>,
    /// Run only cases whose name contains this text.
    #[arg(long, value_name = "FILTER")]
    case: Option<String>,
}

/// `cargo xtask test`.
pub fn test(_flags: &Flags) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

/// Flags of `cargo xtask test-all`.
#[derive(Debug, clap::Args)]
pub struct AllFlags {}

/// `cargo xtask test-all`.
pub fn test_all(_flags: &AllFlags) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
