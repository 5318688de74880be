//! `cargo xtask run`: builds a model, runs it until a signal ends it, and shows
//! commands that talk to it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result};
use lab::build;
use lab::model::Workspace;
use lab::server::{self, Ready};
use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::Pid;

/// Flags of `cargo xtask run`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Model, optionally with a variant (default: the model's first).
    #[arg(value_name = "MODEL[/VARIANT]")]
    title: String,
    /// Arguments for the model: `--tcp 127.0.0.1:0`, for example. `-- --help`
    /// lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Returns the model's exit code; if a signal ended it, 128 plus the signal's
/// number, as shells do.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let (model, variant) = workspace.variant(&flags.title)?;
    build::release(&workspace, std::slice::from_ref(model))?;
    let mut command = Command::new(build::binary(&workspace, model));
    command.args(&variant.args).args(&flags.args).stdout(Stdio::piped());
    let held = hold_signals()?;
    let mut child = server::tie(&mut command, Signal::SIGTERM)
        .spawn()
        .with_context(|| format!("cannot start {}", model.name))?;
    pass_on_signals(held, server::pid(&child));
    let output = pass_output(&mut child, &model.title(variant));
    if output.is_err() {
        server::send(&child, Signal::SIGTERM);
    }
    let status = child.wait().context("cannot wait for the model")?;
    output?;
    Ok(exit_code(status))
}

/// Copies the model's output, and prints advice after its ready line.
fn pass_output(child: &mut Child, title: &str) -> Result<()> {
    let mut output = child.stdout.take().context("the model has no output")?;
    let line = server::line_in_time(&mut output, server::PATIENCE)?;
    let mut stdout = io::stdout();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()?;
    if let Ok(ready) = line.parse::<Ready>() {
        eprint!("{}", advice(title, &ready));
    }
    io::copy(&mut output, &mut stdout)?;
    Ok(())
}

/// Formats commands that talk to the server, for the user to copy.
fn advice(title: &str, ready: &Ready) -> String {
    let mut text = format!("\n{title} is running. Talk to it from another ");
    text += "terminal:\n\n";
    if let Some(address) = ready.tcp {
        let (host, port) = reachable(address);
        text += &format!("  redis-cli -h {host} -p {port} PING\n");
        text += &format!("  printf 'PING\\r\\n' | nc -N {host} {port}\n");
    }
    if let Some(address) = ready.udp {
        let (host, port) = reachable(address);
        text += &format!("  printf 'PING\\r\\n' | nc -u -w 1 {host} {port}\n");
    }
    text += "\nCtrl-C shuts it down gracefully: clients receive their pending ";
    text += "replies. A second Ctrl-C ends it at once.\n";
    text
}

/// Returns the address to connect to: the loopback address for a wildcard.
fn reachable(address: SocketAddr) -> (String, u16) {
    let host = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "::1".into(),
        other => other.ip().to_string(),
    };
    (host, address.port())
}

/// Signals passed on to the model. SIGHUP, sent when a terminal closes, is
/// passed on as SIGTERM.
const STOPPING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Blocks the shutdown signals, so that none is lost before the model has
/// started, and sigwait(3) can fetch them afterwards.
fn hold_signals() -> Result<SigSet> {
    let held: SigSet = STOPPING.into_iter().collect();
    held.thread_block().context("cannot block signals")?;
    Ok(held)
}

/// Passes the blocked signals on, from a thread that ends with this process.
fn pass_on_signals(held: SigSet, model: Pid) {
    std::thread::spawn(move || {
        while let Ok(signal) = held.wait() {
            let signal = match signal {
                Signal::SIGHUP => Signal::SIGTERM,
                other => other,
            };
            let _ = signal::kill(model, signal);
        }
    });
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_actual_addresses() {
        let ready = "ready tcp=0.0.0.0:7379 udp=[::1]:7380\n".parse().unwrap();
        let advice = advice("blocking", &ready);
        for line in [
            "redis-cli -h 127.0.0.1 -p 7379 PING\n",
            "nc -N 127.0.0.1 7379\n",
            "nc -u -w 1 ::1 7380\n",
        ] {
            assert!(advice.contains(line), "no {line:?} in {advice}");
        }
    }

    #[test]
    fn the_exit_code_is_the_models() {
        let text = |raw| format!("{:?}", exit_code(ExitStatus::from_raw(raw)));
        assert_eq!(text(77 << 8), format!("{:?}", ExitCode::from(77)));
        assert_eq!(text(9), format!("{:?}", ExitCode::from(137)));
    }
}
