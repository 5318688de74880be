//! What a model can do here: found out by starting it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use console::style;
use lab::model::{Transport, Variant};
use lab::server::{self, Ready};
use nix::sys::signal::Signal;
use serde::Serialize;

/// How long a model may take to be ready, and then to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of starting a variant.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Here {
    NotBuilt,
    Runs,
    /// The model says that this kernel can't run it, and why.
    CannotRun(String),
    /// Anything else: a defect.
    Fails(String),
}

impl Here {
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotBuilt => "not built",
            Self::Runs => "yes",
            Self::CannotRun(_) => "no",
            Self::Fails(_) => "fails",
        }
    }

    pub fn phrase(&self) -> &'static str {
        match self {
            Self::NotBuilt => "not built",
            Self::Runs => "runs here",
            Self::CannotRun(_) => "can't run here",
            Self::Fails(_) => "fails",
        }
    }

    /// Colours a text that contains the word; only in a terminal.
    pub fn paint(&self, text: &str) -> String {
        match self {
            Self::NotBuilt => style(text).dim().to_string(),
            Self::Runs => style(text).green().to_string(),
            Self::CannotRun(_) => style(text).yellow().to_string(),
            Self::Fails(_) => style(text).red().to_string(),
        }
    }
}

/// Starts the variant on a port of the kernel's choice, waits for its ready
/// line and stops it.
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
    let mut command = Command::new(binary);
    command
        .args(&variant.args)
        .args([flag, "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match server::tie(&mut command, Signal::SIGKILL).spawn() {
        Ok(mut child) => {
            let here = outcome(&mut child);
            let _ = child.kill();
            let _ = child.wait();
            here.unwrap_or_else(|error| Here::Fails(format!("{error:#}")))
        }
        Err(error) => Here::Fails(format!("cannot start it: {error}")),
    }
}

/// Reads what the model says in a thread of its own, so that a model that
/// says nothing can't keep us.
fn outcome(child: &mut Child) -> Result<Here> {
    let stdout = child.stdout.take().context("no output")?;
    let stderr = child.stderr.take().context("no error output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let line = server::first_line(stdout).map(|(line, _)| line);
        let _ = sender.send(line);
    });
    let complaint = thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.filter(|line| !line.trim().is_empty()).last()
    });
    let Ok(line) = receiver.recv_timeout(PATIENCE) else {
        return Ok(Here::Fails(format!(
            "no ready line within {} s",
            PATIENCE.as_secs()
        )));
    };
    let ready = line?.parse::<Ready>();
    if ready.is_ok() {
        server::send(child, Signal::SIGTERM);
    }
    let status = wait(child)?;
    if let Ok(ready) = ready {
        anyhow::ensure!(ready != Ready::default(), "ready, but on no address");
        anyhow::ensure!(status.success(), "SIGTERM ended it with {status}");
        return Ok(Here::Runs);
    }
    let complaint = complaint.join().ok().flatten();
    let complaint = complaint.unwrap_or_else(|| "no reason given".to_owned());
    let complaint = server::without_prefix(&complaint).to_owned();
    Ok(match status.code() {
        Some(server::CANNOT_RUN_HERE) => Here::CannotRun(complaint),
        _ => Here::Fails(format!("{status}: {complaint}")),
    })
}

/// Waits for the end of a child that was told to end, for as long as patience
/// lasts.
fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    const STEP: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(STEP);
        waited += STEP;
    }
    anyhow::bail!("still running {} s after SIGTERM", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_does_is_told_apart() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child =
                server::tie(&mut command, Signal::SIGKILL).spawn().unwrap();
            outcome(&mut child).unwrap()
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
