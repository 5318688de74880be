//! A server must not depend on what it inherits: exec(2) changes neither
//! ignored nor blocked signals, nor where standard error leads.

use std::io;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{dup2_stderr, pipe, write};

use crate::case::{Case, For, Trial};
use crate::client::REFUSAL;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("heritage::stop_signals_blocked", stop_signals_blocked),
        Case::new("heritage::children_ignored", children_ignored),
        Case::new("heritage::stderr_nobody_reads", stderr_nobody_reads)
            .only(For::Many),
    ]
}

/// The case ends with a stop, as every case does.
fn stop_signals_blocked(trial: &Trial) -> Result<()> {
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

/// Ignored, the end of a child is nobody's news: who counts on it counts
/// clients that have left, and refuses everybody in the end.
fn children_ignored(trial: &Trial) -> Result<()> {
    let launch = trial.launch().inheriting(ignore_children);
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
    anyhow::ensure!(!end.stderr.contains("cut off"), "nobody was there");
    Ok(())
}

fn ignore_children() -> io::Result<()> {
    // SAFETY: to ignore a signal takes no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    Ok(())
}

/// A message that cannot be delivered is dropped: nobody waits for it, neither
/// the clients nor the stop at the end of the case.
fn stderr_nobody_reads(trial: &Trial) -> Result<()> {
    let launch = trial.launch().inheriting(fill_stderr);
    let server = launch.flags("--max-connections 1").start()?;
    let mut first = server.connect()?;
    first.ping()?;
    server.connect()?.expect(REFUSAL)?;
    first.ping().context("after a new client was refused")?;
    Ok(())
}

/// Standard error becomes a pipe without room, whose other end stays open.
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
