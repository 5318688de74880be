//! Determines whether a model runs on this machine, by starting it.

use std::path::Path;

use anyhow::{Result, ensure};
use console::style;
use lab::Unsupported;
use lab::model::{Transport, Variant};
use lab::server::{self, Errors, Server};

/// The result of starting a variant.
#[derive(Debug, PartialEq, Eq)]
pub enum Here {
    NotBuilt,
    Runs,
    /// This kernel can't run it; the text is the model's own message.
    CannotRun(String),
    /// It failed for another reason, which is a defect.
    Fails(String),
}

impl Here {
    /// Formats the result in a word or two, in colour on a terminal.
    pub fn word(&self) -> String {
        match self {
            Self::NotBuilt => style("not built").dim(),
            Self::Runs => style("yes").green(),
            Self::CannotRun(_) => style("no").yellow(),
            Self::Fails(_) => style("fails").red(),
        }
        .to_string()
    }
}

/// Starts the variant on a port that the kernel chooses, waits for its ready
/// line and shuts it down.
pub fn try_to_run(
    binary: &Path,
    variant: &Variant,
    transports: &[Transport],
) -> Here {
    if !binary.exists() {
        return Here::NotBuilt;
    }
    let flag = match transports.first() {
        Some(Transport::Udp) => "--udp",
        _ => "--tcp",
    };
    let mut arguments = variant.args.clone();
    arguments.extend([flag.to_owned(), "127.0.0.1:0".to_owned()]);
    here(binary, &arguments)
}

fn here(program: &Path, arguments: &[String]) -> Here {
    start_and_stop(program, arguments).unwrap_or_else(|error| match error
        .downcast_ref::<Unsupported>(
    ) {
        Some(reason) => Here::CannotRun(reason.to_string()),
        None => Here::Fails(format!("{error:#}")),
    })
}

fn start_and_stop(program: &Path, arguments: &[String]) -> Result<Here> {
    let errors = Errors::new()?;
    let command = server::command(program, arguments, &errors)?;
    let mut server = Server::spawn(command, errors)?;
    server.wait_until_ready()?;
    let status = server.stop()?;
    ensure!(status.success(), "ended with {status} after SIGTERM");
    Ok(Here::Runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_does_is_told_apart() {
        let shell = |script: &str| {
            let arguments = ["-c", script].map(str::to_owned);
            here(Path::new("/bin/sh"), &arguments)
        };
        let ready = "echo ready tcp=127.0.0.1:1; ";
        let stops = format!("trap 'exit 0' TERM; {ready} while :; do :; done");
        assert_eq!(shell(&stops), Here::Runs);
        assert_eq!(
            shell("echo no ring >&2; exit 77"),
            Here::CannotRun("no ring".to_owned())
        );
        let fails = shell("echo boom >&2; exit 1");
        assert_eq!(fails, Here::Fails("exit status: 1: boom".to_owned()));
    }
}
