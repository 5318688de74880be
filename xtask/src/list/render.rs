//! The list as text: a table where it fits, paragraphs where it does not.

use std::fmt::Write;

use console::style;
use lab::promises::DESCRIPTORS;
use lab::{model, screen};

use super::{Entry, Here};

const HEADER: [&str; 7] =
    ["MODEL", "VARIANT", "FAMILY", "CLIENTS", "TRANSPORTS", "HERE", "SUMMARY"];

/// The column that is coloured.
const HERE: usize = 5;

/// Narrower than this, the last column of a table can't be read.
const SUMMARY_MIN: usize = 30;

/// A table where it fits, otherwise a paragraph for each model; then what
/// needs a sentence. No width is a pipe's: there each variant is one complete
/// line.
pub fn render(entries: &[Entry<'_>], width: Option<usize>) -> String {
    let rows: Vec<_> = entries.iter().map(cells).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.max().unwrap_or(0).max(HEADER[column].len())
    });
    let fixed = widths.iter().sum::<usize>() + 2 * widths.len();
    let mut text = match width {
        None => table(entries, &rows, widths, usize::MAX),
        Some(width) if width < fixed + SUMMARY_MIN => {
            paragraphs(entries, width)
        }
        Some(width) => {
            table(entries, &without_repeats(&rows), widths, width - fixed)
        }
    };
    text += &notes(entries, width.unwrap_or(usize::MAX));
    text
}

/// Rows in which a model's later variants leave out what its first one says.
fn without_repeats(rows: &[[String; 7]]) -> Vec<[String; 7]> {
    let mut before: Option<&[String; 7]> = None;
    let mut short = rows.to_vec();
    for (row, short) in rows.iter().zip(&mut short) {
        if before.is_some_and(|before| before[0] == row[0]) {
            for column in [0, 2, 6] {
                short[column].clear();
            }
        }
        before = Some(row);
    }
    short
}

fn cells(entry: &Entry<'_>) -> [String; 7] {
    [
        entry.model.to_owned(),
        entry.variant.to_owned(),
        entry.family.to_string(),
        entry.ceiling.to_string(),
        model::names(entry.transports),
        entry.here.word().to_owned(),
        entry.summary.to_owned(),
    ]
}

/// `summary` is how wide the last column may be.
fn table(
    entries: &[Entry<'_>],
    rows: &[[String; 7]],
    widths: [usize; 6],
    summary: usize,
) -> String {
    let line = |cells: &[String; 7], here: &dyn Fn(&str) -> String| {
        let mut text = String::new();
        for (column, width) in widths.into_iter().enumerate() {
            let cell = format!("{:width$}  ", cells[column]);
            text += &if column == HERE { here(&cell) } else { cell };
        }
        text
    };
    let mut text = line(&HEADER.map(str::to_owned), &str::to_owned);
    text += HEADER[6];
    text.push('\n');
    let indent = widths.iter().sum::<usize>() + 2 * widths.len();
    for (entry, row) in entries.iter().zip(rows) {
        let start = line(row, &|cell| entry.here.paint(cell));
        let mut lines = screen::wrap(&row[6], summary).into_iter();
        let first = start + &lines.next().unwrap_or_default();
        let _ = writeln!(text, "{}", first.trim_end());
        for rest in lines {
            let _ = writeln!(text, "{:indent$}{rest}", "");
        }
    }
    text
}

/// For narrow terminals: a model's name, its summary, and a line for each
/// variant.
fn paragraphs(entries: &[Entry<'_>], width: usize) -> String {
    let mut text = String::new();
    let column = |of: &dyn Fn(&Entry<'_>) -> usize| {
        entries.iter().map(of).max().unwrap_or(0)
    };
    let names = column(&|entry| entry.variant.len());
    let transports = column(&|entry| model::names(entry.transports).len());
    let here = column(&|entry| entry.here.phrase().len());
    for group in entries.chunk_by(|a, b| a.model == b.model) {
        let Entry { model, family, summary, .. } = group[0];
        let _ = writeln!(text, "{} ({family})", style(model).bold());
        for line in screen::wrap(summary, width.saturating_sub(4)) {
            let _ = writeln!(text, "    {line}");
        }
        for entry in group {
            let phrase = format!("{:here$}", entry.here.phrase());
            let _ = writeln!(
                text,
                "    {:names$}  {:transports$}  {}  {}",
                entry.variant,
                model::names(entry.transports),
                entry.here.paint(&phrase),
                entry.ceiling
            );
        }
    }
    text
}

/// What a cell has no room for: why something does not run, or is left out,
/// and what the numbers mean.
fn notes(entries: &[Entry<'_>], width: usize) -> String {
    let mut notes = Vec::new();
    for entry in entries {
        let title = entry.title();
        match &entry.here {
            Here::CannotRun(reason) => {
                notes.push(format!("{title} can't run: {reason}"));
            }
            Here::Fails(reason) => {
                notes.push(format!("{title} fails: {reason}"));
            }
            Here::NotBuilt | Here::Runs => {}
        }
        if let Some(why) = entry.why {
            let names = model::names(entry.transports);
            notes.push(format!("{title} serves {names} only: {why}"));
        }
        if !entry.rests_with.is_empty() {
            let flags = entry.rests_with.join(" ");
            notes.push(format!(
                "{title} is busy while idle; with {flags} it rests"
            ));
        }
    }
    notes.extend(ceilings(entries));
    let mut text = String::new();
    for note in notes {
        let _ = writeln!(text, "\n{}", screen::fill(&note, width));
    }
    if entries.iter().any(|entry| entry.here == Here::NotBuilt) {
        text += "\n`cargo xtask list --build` builds them first.\n";
    }
    text
}

/// What the numbers of clients mean.
fn ceilings(entries: &[Entry<'_>]) -> Vec<String> {
    let mut notes = vec![format!(
        "Clients: how many are served with {DESCRIPTORS} descriptors (ulimit \
         -n {DESCRIPTORS}), and what refuses the next one."
    )];
    for entry in entries {
        let (title, ceiling) = (entry.title(), entry.ceiling);
        if let Some(limit) = &ceiling.machine {
            notes.push(format!(
                "{title} was tried with {}; the limit is the machine's: \
                 {limit}.",
                ceiling.clients
            ));
        }
        if let Some(flags) = &ceiling.flags {
            notes.push(format!("{title} was tried with {flags}."));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::model::{Family, Transport};
    use lab::promises::Ceiling;
    use std::sync::LazyLock;

    static CEILING: LazyLock<Ceiling> = LazyLock::new(|| Ceiling {
        clients: 1_000,
        ends: "EAGAIN".to_owned(),
        machine: None,
        flags: None,
    });

    fn entry<'a>(model: &'a str, variant: &'a str, here: Here) -> Entry<'a> {
        Entry {
            model,
            variant,
            family: Family::Multiplexing,
            ceiling: &CEILING,
            rests_with: &[],
            transports: &[Transport::Tcp, Transport::Udp],
            why: None,
            summary: "one thread waits for many sockets with epoll(7)",
            here,
        }
    }

    fn sample() -> [Entry<'static>; 3] {
        let reason = "io_uring_setup(2): Operation not permitted (EPERM)";
        [
            entry("multiplexing-epoll", "level", Here::Runs),
            entry("multiplexing-epoll", "edge", Here::NotBuilt),
            entry("async-io", "", Here::CannotRun(reason.to_owned())),
        ]
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        console::set_colors_enabled(false);
        for width in [60, 72, 100, 120, 200] {
            for line in render(&sample(), Some(width)).lines() {
                assert!(
                    line.len() <= width,
                    "{} > {width}: {line}",
                    line.len()
                );
            }
        }
    }

    #[test]
    fn in_a_pipe_every_variant_is_one_whole_line() {
        let text = render(&sample(), None);
        let lines = text.lines().filter(|l| l.starts_with("multiplexing"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.ends_with("sockets with epoll(7)"), "{line}");
        }
        assert!(!text.contains('\x1b'), "escapes in a pipe");
    }

    #[test]
    fn a_terminal_says_what_variants_share_once() {
        let text = render(&sample(), Some(120));
        assert_eq!(text.matches("multiplexing-epoll").count(), 1);
        assert_eq!(text.matches("async-io can't run: io_uring").count(), 1);
    }

    #[test]
    fn what_the_numbers_mean_is_said_below() {
        let ceiling = Ceiling {
            machine: Some("pids.max".to_owned()),
            flags: Some("--loops 2".to_owned()),
            ..CEILING.clone()
        };
        let mut sample = sample();
        sample[0].ceiling = &ceiling;
        let text = render(&sample, Some(80));
        for part in ["1000+, EAGAIN", "Clients: how", "pids.max", "--loops 2"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
