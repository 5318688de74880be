//! The workers: threads that are created at the start and never end before the
//! server does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::thread::Builder;

use anyhow::{Context as _, Result, anyhow};

/// Creates the workers. `work` never ends.
pub fn start(
    workers: usize,
    work: impl Fn() -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    for number in 1..=workers {
        let work = work.clone();
        Builder::new()
            .name("worker".into())
            .spawn(move || run(work))
            .with_context(|| {
                format!(
                    "cannot create worker {number} of {workers} (ulimit -u, \
                     ulimit -v)"
                )
            })?;
    }
    Ok(())
}

/// Works. If a worker fails, or panics outside of a request, its clients would
/// wait for ever, so it ends the process.
fn run(work: impl Fn() -> Result<()>) {
    let ended = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(anyhow!("panicked")))
        .context("a worker");
    let _ = common::conclude(ended);
    exit(1)
}
