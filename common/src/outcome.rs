//! How a server starts and how it ends: ready line and exit codes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::log::say;

/// Exit code of a run-time failure; 0 is a stop that was asked for, and 2 is
/// for the command line.
const FAILURE: u8 = 1;

/// Exit code for a kernel that cannot run the model, as automake's tests say
/// "skipped".
const UNSUPPORTED: u8 = 77;

/// This kernel, or its settings, cannot run this model.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {why}")]
pub struct Unsupported {
    /// The system call that was refused.
    pub call: &'static str,
    /// The errno's meaning, and the setting or version that explains it.
    pub why: String,
}

/// Prints the line that says everything is bound, with the real ports, and
/// that is all a server ever writes on standard output:
/// `ready tcp=127.0.0.1:40001 udp=127.0.0.1:40002`.
///
/// # Errors
///
/// Standard output cannot be written to: nobody would learn the ports.
pub fn announce(
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let mut line = String::from("ready");
    for (name, address) in [("tcp", tcp), ("udp", udp)] {
        if let Some(address) = address {
            let _ = write!(line, " {name}={address}");
        }
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .context("cannot write the ready line to standard output")
}

/// Says on standard error what went wrong, if anything, and turns it into the
/// exit code.
pub fn conclude(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    say(format_args!("error: {error:#}"));
    if error.is::<Unsupported>() { UNSUPPORTED.into() } else { FAILURE.into() }
}
