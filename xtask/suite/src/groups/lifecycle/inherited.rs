//! A server must not depend on what it inherits: execve(2) preserves ignored
//! signals, blocked signals and standard error.

use std::io;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{dup2_stderr, pipe, write};

use crate::case::{Case, For, Trial};
use crate::client::REJECTION;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "inherited::shutdown_signals_blocked",
            shutdown_signals_blocked,
        ),
        Case::new("inherited::children_ignored", children_ignored),
        Case::new("inherited::full_stderr_pipe", full_stderr_pipe)
            .only(For::Many),
    ]
}

/// SIGTERM must still work; it ends the server after every case.
fn shutdown_signals_blocked(trial: &Trial) -> Result<()> {
    let server = trial.launch().inheriting(block_stop_signals).start()?;
    server.connect()?.ping()?;
    Ok(())
}

fn block_stop_signals() -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGALRM] {
        signals.add(signal);
    }
    Ok(signals.thread_block()?)
}

/// While SIGCHLD is ignored, it is not delivered. A server that relies on it
/// would go on counting clients that have left, and reject all new ones in the
/// end; or its drain would wait for children that have ended.
fn children_ignored(trial: &Trial) -> Result<()> {
    let launch = trial.launch().inheriting(ignore_children);
    let launch = launch.flags("--drain-timeout 60");
    let server = match trial.subject.serves_one() {
        true => launch.start()?,
        false => launch.flags("--max-connections 2").start()?,
    };
    for round in 0..10 {
        let mut client = server
            .wait_for_place()
            .with_context(|| format!("after {round} clients have left"))?;
        client.ping()?;
    }
    server.terminate()?;
    let end = server.wait()?.expect(0)?;
    anyhow::ensure!(
        !end.stderr.contains("cut off"),
        "it cut off clients, but all had left"
    );
    Ok(())
}

fn ignore_children() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    Ok(())
}

/// A message that cannot be written to standard error is dropped. Neither the
/// clients nor the shutdown after the case may wait for it.
fn full_stderr_pipe(trial: &Trial) -> Result<()> {
    let launch = trial.launch().inheriting(fill_stderr);
    let server = launch.flags("--max-connections 1").start()?;
    let mut first = server.connect()?;
    first.ping()?;
    server.connect()?.expect(REJECTION)?;
    first.ping().context("after a new client was rejected")?;
    Ok(())
}

/// Makes standard error a full pipe, whose read end stays open.
fn fill_stderr() -> io::Result<()> {
    let (reader, writer) = pipe()?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let filled = loop {
        if let Err(errno) = write(&writer, &[b'.'; 4096]) {
            break errno;
        }
    };
    if filled != Errno::EAGAIN {
        return Err(filled.into());
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    dup2_stderr(&writer)?;
    std::mem::forget(reader);
    Ok(())
}
