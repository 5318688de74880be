//! Standard output: its width, and readers that close it early.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints a text. A reader that closes the pipe early, as `head` and pagers do,
/// causes no error.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Returns the output width: the variable `COLUMNS` if it is exported,
/// otherwise the terminal's width. None for a pipe or a file, where lines may
/// have any length.
pub fn width() -> Option<usize> {
    let exported = std::env::var("COLUMNS").ok();
    exported
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| *columns > 0)
        .or_else(|| {
            let (_, columns) = Term::stdout().size_checked()?;
            Some(usize::from(columns))
        })
}

/// Returns the output width like [`width`], also for a pipe to a pager: the
/// terminal is then still on standard error.
pub fn width_behind_a_pipe() -> Option<usize> {
    width().or_else(|| {
        let (_, columns) = Term::stderr().size_checked()?;
        Some(usize::from(columns))
    })
}

/// Starts a progress bar on standard error, hidden if that isn't a terminal.
pub fn progress(steps: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    let template = "{pos}/{len} {eta} left  {wide_msg}";
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or(ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Breaks `text` between words into lines of at most `width` columns. A longer
/// word gets its own line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let used = console::measure_text_width(line);
        if used == 0 {
            line.push_str(word);
        } else if used + 1 + console::measure_text_width(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Wraps `text` like [`wrap`], and joins the lines.
pub fn fill(text: &str, width: usize) -> String {
    wrap(text, width).join("\n")
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn wrapping_breaks_between_words() {
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("one two", 7), ["one two"]);
        assert_eq!(wrap("one two", 6), ["one", "two"]);
        assert_eq!(
            wrap("a considerably longer", 4),
            ["a", "considerably", "longer"]
        );
    }
}
