//! An interrupted suite leaves no process behind.
//!
//! Every process group that the suite starts is listed here for as long as it
//! lives. When the suite is asked to stop, all of them are killed first. When
//! it is killed instead, the kernel kills the groups' leaders
//! (PR_SET_PDEATHSIG), and their children follow by the same means.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Takes Ctrl-C and SIGTERM. Orphans of what the suite started become its
/// children, so that it can reap them.
pub fn prepare() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
        .context("PR_SET_CHILD_SUBREAPER")?;
    ctrlc::set_handler(|| {
        for group in groups().iter() {
            let _ = killpg(*group, Signal::SIGKILL);
        }
        eprintln!("interrupted");
        std::process::exit(130);
    })
    .context("cannot handle Ctrl-C")
}

/// Puts a process group on the list of those to kill.
pub fn register(group: Pid) {
    groups().push(group);
}

/// Takes a group that has ended off the list.
pub fn forget(group: Pid) {
    groups().retain(|listed| *listed != group);
}

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
