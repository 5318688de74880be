//! The workspace's unit tests, as `cargo test` runs them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::report::Count;
use crate::model::Workspace;

/// Runs them, shows what cargo says, and counts.
pub fn run(workspace: &Workspace) -> Result<Count> {
    let mut child = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .current_dir(&workspace.root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child.stdout.take().context("no standard output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("reading from cargo test")?;
        println!("{line}");
        count.add(summary(&line).unwrap_or_default());
    }
    let status = child.wait().context("waiting for cargo test")?;
    // Something broke that no test has counted: it did not compile.
    ensure!(
        status.success() || count.failed > 0,
        "cargo test failed: {status}"
    );
    Ok(count)
}

/// The counts of a line like `test result: ok. 3 passed; 0 failed; ...`.
fn summary(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(name))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Count {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_that_closes_a_test_program() {
        let line = "test result: FAILED. 12 passed; 3 failed; 2 ignored; \
                    0 measured; 0 filtered out; finished in 0.01s";
        let expected = Count { passed: 12, failed: 3, skipped: 2 };
        assert_eq!(summary(line), Some(expected));
        assert_eq!(summary("test proves_it ... ok"), None);
    }
}
