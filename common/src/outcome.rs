//! The ready line and the exit codes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::log::say;

/// The exit code of a run-time failure. 0 is a graceful shutdown, 2 a wrong
/// command line.
const FAILURE: u8 = 1;

/// The exit code if this kernel cannot run the model; automake's tests use the
/// same for "skipped".
const UNSUPPORTED: u8 = 77;

/// This kernel, or its settings, cannot run this model.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {why}")]
pub struct Unsupported {
    /// The system call that failed.
    pub call: &'static str,
    /// The errno's meaning, and the setting or version that explains it.
    pub why: String,
}

/// Prints the ready line, with the actual ports, once everything is bound:
/// `ready tcp=127.0.0.1:40001 udp=127.0.0.1:40002`. A server writes nothing
/// else to standard output.
///
/// # Errors
///
/// Standard output cannot be written to.
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

/// Logs an error, and returns the exit code.
pub fn conclude(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    say(format_args!("error: {error:#}"));
    if error.is::<Unsupported>() { UNSUPPORTED.into() } else { FAILURE.into() }
}
