//! Handles Ctrl-C: the current run is given up, and the results of the runs
//! before it are shown.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

static WANTED: AtomicBool = AtomicBool::new(false);

/// The run was given up.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Handles SIGINT and SIGTERM. A second signal ends the program at once, and
/// the kernel ends the server with it (PR_SET_PDEATHSIG).
pub fn prepare() -> Result<()> {
    ctrlc::set_handler(|| {
        if WANTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot handle Ctrl-C")
}

pub fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

pub fn check() -> Result<()> {
    ensure!(!is_wanted(), Interrupted);
    Ok(())
}
