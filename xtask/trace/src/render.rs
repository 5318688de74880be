//! A timeline for the terminal.

use std::time::Duration;

use console::{Style, measure_text_width};
use lab::screen::wrap;

use super::lines::{Line, LineKind, Phase};
use super::timeline::Timeline;
use super::values::length;

/// Columns where nobody says how many there are, and the least.
const USUAL: usize = 100;
const LEAST: usize = 60;

/// Columns of the marks of a phase, of times, of names, of durations.
const MARK: usize = 2;
const TIME: usize = 9;
const WHO: usize = 9;
const SPENT: usize = 8;

/// The timeline as text, a heading first.
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

/// Warns of the times of a traced program.
const NOTE: &str = "The tracer stops the server at each call, twice: what it \
                    took includes that.";

#[derive(Clone, Copy, Debug)]
struct Columns {
    start: Duration,
    many: bool,
    /// Columns for the text, and of the whole.
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
        let dim = Style::new().dim();
        let who =
            if self.many { format!("{:WHO$} ", "who") } else { String::new() };
        let text = self.text;
        let heading = format!(
            "{:MARK$}{:>TIME$} {who}{:text$} {:>SPENT$}",
            "", "ms", "the server's calls", "took"
        );
        format!("{}\n", dim.apply_to(heading.trim_end()))
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
        format!("{:>TIME$.3}", since * 1e3)
    }

    /// An act of the client's, across all columns.
    fn client(self, line: &Line) -> String {
        let head = format!("{:MARK$}{} ", "", self.time(line.at));
        let text = format!("── {} ", line.text);
        let used = measure_text_width(&head) + measure_text_width(&text);
        let rule = "─".repeat(self.width.saturating_sub(used));
        let style = Style::new().cyan();
        format!("{head}{}\n", style.apply_to(text + &rule))
    }

    fn phase(self, line: &Line) -> String {
        let style = style(line.phase).bold();
        let indent = MARK + TIME + 1;
        let mut text = String::new();
        for part in wrap(&line.text, self.width - indent) {
            let mark = format!("{:MARK$}", mark(line.phase));
            let gap = " ".repeat(TIME + 1);
            text += &format!(
                "{}{gap}{}\n",
                style.apply_to(mark),
                style.apply_to(part)
            );
        }
        text
    }

    fn call(self, line: &Line) -> String {
        let event = line.kind == LineKind::Event;
        let words_style =
            if event { Style::new().magenta() } else { Style::new() };
        let mut text = String::new();
        for (place, part) in
            wrap_hanging(&line.text, self.text).iter().enumerate()
        {
            let first = place == 0;
            let time = match first {
                true => self.time(line.at),
                false => " ".repeat(TIME),
            };
            let who = match (self.many, first) {
                (false, _) => String::new(),
                (true, true) => format!("{:WHO$} ", line.who),
                (true, false) => " ".repeat(WHO + 1),
            };
            let spent =
                line.spent.filter(|_| first).map_or(String::new(), length);
            let gap =
                " ".repeat(self.text.saturating_sub(measure_text_width(part)));
            let mark = style(line.phase)
                .apply_to(format!("{:MARK$}", mark(line.phase)));
            let spent = Style::new().dim().apply_to(format!("{spent:>SPENT$}"));
            let part = words_style.apply_to(part);
            let row = format!("{mark}{time} {who}{part}{gap} {spent}");
            text += row.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Further lines stand two columns to the right.
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

fn mark(phase: Option<Phase>) -> &'static str {
    match phase {
        None => "",
        Some(Phase::Waiting) => "░",
        Some(Phase::Copying) => "█",
    }
}

fn style(phase: Option<Phase>) -> Style {
    match phase {
        None => Style::new(),
        Some(Phase::Waiting) => Style::new().yellow(),
        Some(Phase::Copying) => Style::new().green(),
    }
}
