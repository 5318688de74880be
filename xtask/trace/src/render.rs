//! Formats a timeline for the terminal.

use std::borrow::Cow;
use std::time::Duration;

use console::{Alignment, Style, measure_text_width, pad_str};
use lab::screen::wrap;

use super::lines::{Line, LineKind, Phase};
use super::timeline::Timeline;
use super::values::length;

/// The number of columns if the width is unknown, and the minimum.
const USUAL: usize = 100;
const LEAST: usize = 60;

/// Widths of the phase marks, times, names and durations.
const MARK: usize = 2;
const TIME: usize = 9;
const WHO: usize = 9;
const SPENT: usize = 8;

/// Formats the timeline as text, with a heading.
pub fn render(timeline: &Timeline, width: Option<usize>) -> String {
    let columns = Columns::new(timeline, width);
    let mut text = columns.heading();
    for line in &timeline.lines {
        text += &columns.line(line);
    }
    for line in wrap(NOTE, columns.width) {
        text += &format!("{}\n", Style::new().dim().apply_to(line));
    }
    text
}

/// A warning about the times of a traced program.
const NOTE: &str = "The tracer stops the server at each call, twice: what it \
                    took includes that.";

#[derive(Clone, Copy, Debug)]
struct Columns {
    start: Duration,
    many: bool,
    /// The width of the text, and of the whole line.
    text: usize,
    width: usize,
}

impl Columns {
    fn new(timeline: &Timeline, width: Option<usize>) -> Self {
        let width = width.unwrap_or(USUAL).clamp(LEAST, 2 * USUAL);
        let who = if timeline.many { WHO + 1 } else { 0 };
        let text = width - MARK - TIME - 1 - who - 1 - SPENT;
        Self { start: timeline.start, many: timeline.many, text, width }
    }

    fn heading(self) -> String {
        let calls = pad("the server's calls", self.text);
        let took = format!("{:>SPENT$}", "took");
        let heading =
            format!("{:MARK$}{} {calls} {took}", "", self.head("ms", "who"));
        format!("{}\n", Style::new().dim().apply_to(heading))
    }

    /// Formats the first columns: the time, and the thread if there are
    /// several.
    fn head(self, time: &str, who: &str) -> String {
        match self.many {
            true => format!("{time:>TIME$} {who:WHO$}"),
            false => format!("{time:>TIME$}"),
        }
    }

    fn line(self, line: &Line) -> String {
        match line.kind {
            LineKind::Client => self.client(line),
            LineKind::Phase => self.phase(line),
            _ => self.call(line),
        }
    }

    fn time(self, at: Duration) -> String {
        let since = at.as_secs_f64() - self.start.as_secs_f64();
        format!("{:.3}", since * 1e3)
    }

    /// Formats an act of the client, across all columns.
    fn client(self, line: &Line) -> String {
        let head = format!("{:MARK$}{:>TIME$} ", "", self.time(line.at));
        let text = format!("── {} ", line.text);
        let used = measure_text_width(&head) + measure_text_width(&text);
        let rule = "─".repeat(self.width.saturating_sub(used));
        let style = Style::new().cyan();
        format!("{head}{}\n", style.apply_to(text + &rule))
    }

    fn phase(self, line: &Line) -> String {
        let (mark, style) = mark(line.phase);
        let style = style.bold();
        let mark = style.apply_to(format!("{mark:MARK$}"));
        let parts = wrap(&line.text, self.width - MARK - TIME - 1);
        let rows = parts.iter().map(|part| {
            let part = style.apply_to(part);
            format!("{mark}{:TIME$} {part}\n", "")
        });
        rows.collect()
    }

    fn call(self, line: &Line) -> String {
        let words = match line.kind {
            LineKind::Event => Style::new().magenta(),
            _ => Style::new(),
        };
        let (mark, style) = mark(line.phase);
        let mark = style.apply_to(format!("{mark:MARK$}"));
        let spent = line.spent.map_or(String::new(), length);
        let mut first = (self.head(&self.time(line.at), &line.who), spent);
        let mut text = String::new();
        for part in wrap_hanging(&line.text, self.text) {
            let (head, spent) = &first;
            let part = words.apply_to(pad(&part, self.text));
            let spent = Style::new().dim().apply_to(format!("{spent:>SPENT$}"));
            text += format!("{mark}{head} {part} {spent}").trim_end();
            text.push('\n');
            first = (self.head("", ""), String::new());
        }
        text
    }
}

fn pad(text: &str, width: usize) -> Cow<'_, str> {
    pad_str(text, width, Alignment::Left, None)
}

/// Wraps a text and indents further lines by two columns.
fn wrap_hanging(text: &str, width: usize) -> Vec<String> {
    if measure_text_width(text) <= width {
        return vec![text.to_owned()];
    }
    let lines = wrap(text, width - 2).into_iter().enumerate();
    let hanging = lines.map(|(place, line)| match place {
        0 => line,
        _ => format!("  {line}"),
    });
    hanging.collect()
}

/// Returns the mark and the style of a phase.
fn mark(phase: Option<Phase>) -> (&'static str, Style) {
    match phase {
        None => ("", Style::new()),
        Some(Phase::Waiting) => ("░", Style::new().yellow()),
        Some(Phase::Copying) => ("█", Style::new().green()),
    }
}
