//! Ctrl-C ends the comparison, not what it has found out: the run under way
//! is given up, and everything before it is shown.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

static WANTED: AtomicBool = AtomicBool::new(false);

/// The run was given up.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Takes Ctrl-C and SIGTERM; a second one ends the program at once, and the
/// kernel ends the server with it (PR_SET_PDEATHSIG).
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
