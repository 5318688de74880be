//! The workspace's unit tests, as `cargo test` runs them.
//!
//! Cargo counts tests as ignored that are excluded at compile time, but not
//! those that find out at run time that they can't run. Such a test [prints
//! so](lab::test::skip) and passes; it is counted as skipped.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::model::Workspace;
use lab::test::SKIPPED;

use super::report::Count;

/// Runs the tests, prints cargo's output, and counts the results. Models have
/// no unit tests, so they are excluded and need not be built again.
pub fn run(workspace: &Workspace) -> Result<Count> {
    let models = workspace.models.iter();
    let models = models.flat_map(|model| ["--exclude", &model.name]);
    let mut child = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .args(models)
        .current_dir(&workspace.root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;
    let output = child.stdout.take().context("no standard output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("reading from cargo test")?;
        println!("{line}");
        lines.push(line);
    }
    let count = count(&lines);
    let status = child.wait().context("waiting for cargo test")?;
    // If no test has failed, something did not compile.
    ensure!(
        status.success() || count.failed > 0,
        "cargo test failed: {status}"
    );
    Ok(count)
}

/// Adds up the last lines of the test programs, like
/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured`.
fn count(lines: &[String]) -> Count {
    let mut count = Count::default();
    let results = lines.iter().filter(|line| line.starts_with("test result: "));
    for line in results {
        let words: Vec<_> = line.split([' ', ';']).collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed" => count.passed += number,
                "failed" => count.failed += number,
                "ignored" => count.skipped += number,
                _ => {}
            }
        }
    }
    let skipped = lines.iter().filter(|line| line.starts_with(SKIPPED));
    let skipped = skipped.count().min(count.passed);
    count.passed -= skipped;
    count.skipped += skipped;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_says_it_was_skipped_has_not_passed() {
        let lines = [
            "test proves_it ... FAILED",
            "skipped: page::browser: no Chromium on the PATH",
            "test result: FAILED. 12 passed; 3 failed; 2 ignored; 0 measured; \
             0 filtered out; finished in 0.01s",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; \
             0 filtered out; finished in 0.01s",
        ];
        let expected = Count { passed: 13, failed: 3, skipped: 3 };
        assert_eq!(count(&lines.map(str::to_owned)), expected);
    }
}
