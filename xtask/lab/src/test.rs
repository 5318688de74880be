//! Reports skipped tests, for tests that can't run everywhere.

use std::fmt::Display;
use std::io;
use std::io::Write as _;
use std::thread;

/// The beginning of a line that reports a test as skipped.
pub const SKIPPED: &str = "skipped: ";

/// Reports that the test on this thread is skipped; the test then returns.
/// Cargo counts it as passed, and `cargo xtask test-all` counts these reports.
pub fn skip(reason: impl Display) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written directly to stdout, because the harness captures `println!`.
    let line = format!("\n{SKIPPED}{test}: {reason}\n");
    let _ = io::stdout().write_all(line.as_bytes());
}
