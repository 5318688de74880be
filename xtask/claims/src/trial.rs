//! Runs an experiment in a process of its own, so that descriptors, signals,
//! limits and memory of one can't affect the next.

use std::env;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow, bail};
use lab::{Unsupported, screen};
use nix::errno::Errno;
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
pub fn alone(claim: &Claim, effort: Effort) -> Result<()> {
    alarm::set(TIME_LIMIT);
    lab::process::raise_descriptor_limit()?;
    let finding = (claim.run)(effort).map_err(or_unsupported)?;
    screen::print(&toml::to_string(&finding)?)
}

/// Makes [`Unsupported`] of an error if it comes from a call that this machine
/// forbids, lacks or has no resources for: the experiment itself has not
/// failed.
fn or_unsupported(error: Error) -> Error {
    let errno = |cause: &(dyn std::error::Error + 'static)| {
        let raw =
            cause.downcast_ref::<io::Error>().map(io::Error::raw_os_error);
        let errno = cause.downcast_ref::<Errno>().copied();
        errno.or_else(|| raw.flatten().map(Errno::from_raw))
    };
    let is_lacking = error.chain().filter_map(errno).any(|errno| {
        matches!(
            errno,
            Errno::EPERM
                | Errno::EACCES
                | Errno::ENOSYS
                | Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::ENOBUFS
        )
    });
    match is_lacking {
        true => Unsupported::Tool(format!("{error:#}")).into(),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_machine_lacks_is_unsupported() {
        let denied = Error::from(io::Error::from_raw_os_error(libc::EPERM));
        let full = Error::from(Errno::EMFILE).context("eventfd");
        let reset = Error::from(Errno::ECONNRESET).context("recv");
        for (error, unsupported) in
            [(denied, true), (full, true), (reset, false)]
        {
            assert_eq!(or_unsupported(error).is::<Unsupported>(), unsupported);
        }
    }
}
