//! An interrupted suite leaves nothing behind.
//!
//! Every process that the suite starts is [tied to it](lab::server::tie): the
//! kernel kills it when the suite ends, however that comes, and its children
//! follow by the same means. A folder has to be removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Takes Ctrl-C and SIGTERM. Orphans of what the suite started become its
/// children, so that it can reap them.
pub fn prepare() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
        .context("PR_SET_CHILD_SUBREAPER")?;
    ctrlc::set_handler(|| {
        if let Some(folder) = FOLDER.get() {
            let _ = fs::remove_dir_all(folder);
        }
        eprintln!("interrupted");
        std::process::exit(130);
    })
    .context("cannot handle Ctrl-C")
}

/// Has a folder removed when the suite is interrupted: the only one.
pub fn register_folder(folder: &Path) {
    let _ = FOLDER.set(folder.to_owned());
}
