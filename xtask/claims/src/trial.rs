//! Runs an experiment in a process of its own, so that descriptors, signals,
//! limits and memory of one can't affect the next.

use std::env;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use lab::{Unsupported, screen};
use nix::unistd::alarm;

use crate::claim::{Claim, Effort, Finding};

/// The time after which SIGALRM ends an experiment, in seconds. Each is to end
/// within a few seconds, so all within four minutes.
const TIME_LIMIT: u32 = 60;

/// Starts this program again for one experiment, and reads its finding.
///
/// # Errors
///
/// [`Unsupported`] if this machine can't run it.
pub fn run(claim: &Claim, effort: Effort) -> Result<Finding> {
    let me = env::current_exe().context("this program's path")?;
    let mut command = Command::new(me);
    command.args(["claims", "--alone", claim.id]);
    if effort == Effort::Short {
        command.arg("--short");
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().context("starting an experiment")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let reason = errors.trim().trim_start_matches("error: ").to_owned();
    match output.status.code() {
        Some(0) => {
            let text = String::from_utf8(output.stdout)?;
            toml::from_str(&text).context("reading its finding")
        }
        Some(code) if code == i32::from(Unsupported::CODE) => {
            bail!(Unsupported::Tool(reason))
        }
        Some(_) => Err(anyhow!(reason)),
        None => bail!("ended by {} {reason}", output.status),
    }
}

/// Runs an experiment in this process, and prints its finding.
pub fn alone(claim: &Claim, effort: Effort) -> Result<ExitCode> {
    alarm::set(TIME_LIMIT);
    lab::process::raise_descriptor_limit()?;
    let finding = (claim.run)(effort)?;
    screen::print(&toml::to_string(&finding)?)?;
    Ok(ExitCode::SUCCESS)
}
