//! An interrupted suite leaves no process behind.
//!
//! Every process group that the suite starts is listed here for as long as it
//! lives. When the suite is asked to stop, all of them are killed first. When
//! it is killed instead, the kernel kills the groups' leaders
//! (PR_SET_PDEATHSIG), and their children follow by the same means.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use lab::process::end_group;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Takes Ctrl-C and SIGTERM. Orphans of what the suite started become its
/// children, so that it can reap them.
pub fn prepare() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
        .context("PR_SET_CHILD_SUBREAPER")?;
    ctrlc::set_handler(|| {
        // Held to the end: nothing new may start.
        let groups = locked(&GROUPS);
        for group in groups.iter() {
            let _ = killpg(*group, Signal::SIGKILL);
        }
        for group in groups.iter() {
            end_group(*group);
        }
        for folder in locked(&FOLDERS).iter() {
            let _ = fs::remove_dir_all(folder);
        }
        eprintln!("interrupted");
        std::process::exit(130);
    })
    .context("cannot handle Ctrl-C")
}

/// Starts a program as the leader of a process group of its own, which is on
/// the list from its first moment.
pub fn spawn(command: &mut Command) -> Result<Child> {
    let mut groups = locked(&GROUPS);
    let child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    groups.push(Pid::from_raw(child.id().cast_signed()));
    Ok(child)
}

/// Takes a group that has ended off the list.
pub fn forget(group: Pid) {
    locked(&GROUPS).retain(|listed| *listed != group);
}

/// Has a folder removed when the suite is interrupted.
pub fn register_folder(folder: &Path) {
    locked(&FOLDERS).push(folder.to_owned());
}

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
