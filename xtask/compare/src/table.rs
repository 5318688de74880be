//! Results for a terminal: the summary, and for each workload a line a server.

use std::fmt::Write;

use console::{measure_text_width, style};
use lab::{number, screen};

use super::columns::{COLUMNS, Column, Group};
use super::remark;
use super::results::{Figures, Finding, Results};
use super::spread::{APART, Spread};
use super::summary::{self, MARK};
use super::workload::Workload;

/// Between two columns. The first of them is the left one's mark, or free.
const GAP: usize = 2;

/// The columns up to this rank are shown however narrow a terminal is: requests
/// a second, processor time, p50.
const KEPT: u8 = 2;

/// Shows several runs in a column.
type Show = Box<dyn Fn(&[&Figures]) -> String>;

/// One column of all tables, as text.
struct TextColumn {
    heading: &'static str,
    /// The higher, the sooner a narrow terminal does without it.
    rank: u8,
    of: Show,
    /// The figure that decides on its marks.
    column: Option<&'static Column>,
}

/// The text of one cell, and whether it is marked.
struct TextCell {
    text: String,
    is_marked: bool,
}

/// One group under one workload.
struct Table<'a> {
    workload: &'a Workload,
    group: Group,
    lines: Vec<ServerLine<'a>>,
}

/// A server's line.
struct ServerLine<'a> {
    server: &'a str,
    /// The figures, or why there are none.
    content: Result<Vec<TextCell>, String>,
    remark: String,
}

/// Renders the summary, and tables of all workloads, in the same columns. No
/// width is a pipe's: there a server is one whole line. Otherwise columns are
/// left out that the terminal has no room for.
pub fn render(results: &Results, width: Option<usize>) -> String {
    let mut columns = columns();
    let mut tables = tables(results, &columns);
    let room = width.unwrap_or(usize::MAX);
    let left_out = fit(&mut columns, &mut tables, room);
    let (first, widths) = widths(&columns, &tables);
    let mut text = summarized(results, room);
    let mut above = None;
    for table in &tables {
        let name = &table.workload.name;
        if above != Some(name) {
            let title = format!("{} ({name})", table.workload.title);
            for line in screen::wrap(&title, room) {
                let _ = writeln!(text, "{}", style(line).bold());
            }
            text.push('\n');
            above = Some(name);
        }
        let headings = columns.iter().map(|column| TextCell {
            text: column.heading.to_owned(),
            is_marked: false,
        });
        let headings: Vec<_> = headings.collect();
        let title = table.group.title();
        text += laid_out(title, &headings, first, &widths).trim_end();
        text.push('\n');
        for line in &table.lines {
            write(line, first, &widths, width, &mut text);
        }
        text.push('\n');
    }
    if !tables.is_empty() {
        text += &note(&left_out, room);
    }
    text
}

/// Lays out the rankings below each other, and what is to be said of them.
fn summarized(results: &Results, room: usize) -> String {
    let rankings = summary::rankings(results);
    let parts: Vec<_> = rankings.iter().map(|it| (it, it.lines())).collect();
    let lines = || parts.iter().flat_map(|(_, lines)| lines);
    let width = |at: usize| {
        let widths = lines().map(|line| measure_text_width(&line[at]));
        widths.max().unwrap_or(0)
    };
    let [first, second, third] = [0, 1, 2].map(width);
    let mut text = String::new();
    for (ranking, lines) in &parts {
        for line in screen::wrap(&ranking.title, room) {
            let _ = writeln!(text, "{}", style(line).bold());
        }
        for [server, number, unit, range] in lines {
            let line = format!(
                "{server:first$}  {number:>second$} {unit:third$}  {range}"
            );
            let _ = writeln!(text, "  {}", line.trim_end());
        }
        text.push('\n');
    }
    let cautions = summary::cautions(results).join(" ");
    if !results.servers.is_empty() && !cautions.is_empty() {
        text += &(screen::fill(&cautions, room) + "\n\n");
    }
    text
}

fn tables<'a>(results: &'a Results, columns: &[TextColumn]) -> Vec<Table<'a>> {
    let groups = groups(results);
    let mut tables = Vec::new();
    for workload in &results.workloads {
        let best = columns.iter().map(|cells| {
            cells.column.and_then(|it| it.best(results, &workload.name))
        });
        let best: Vec<_> = best.collect();
        for (group, servers) in &groups {
            let lines = servers
                .iter()
                .map(|server| line(results, workload, server, columns, &best));
            let lines = lines.collect();
            tables.push(Table { workload, group: *group, lines });
        }
    }
    tables
}

/// Takes away columns until the others fit, and says which.
fn fit(
    columns: &mut Vec<TextColumn>,
    tables: &mut [Table<'_>],
    room: usize,
) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    loop {
        let (first, widths) = widths(columns, tables);
        let used = first + 1 + widths.iter().map(|w| w + GAP).sum::<usize>();
        let last = columns.iter().enumerate().max_by_key(|(_, c)| c.rank);
        let Some((at, last)) = last else { break };
        if used <= room || last.rank <= KEPT {
            break;
        }
        left_out.push(columns.remove(at).heading);
        for line in tables.iter_mut().flat_map(|table| &mut table.lines) {
            if let Ok(cells) = &mut line.content {
                cells.remove(at);
            }
        }
    }
    left_out.reverse();
    left_out
}

/// Measures the servers' names, and each column.
fn widths(columns: &[TextColumn], tables: &[Table<'_>]) -> (usize, Vec<usize>) {
    let lines = || tables.iter().flat_map(|table| &table.lines);
    let names = lines().map(|line| line.server);
    let names = names.chain(tables.iter().map(|table| table.group.title()));
    let first = names.map(measure_text_width).max().unwrap_or(0);
    let widths = columns.iter().enumerate().map(|(at, column)| {
        let cells = lines().filter_map(|line| line.content.as_ref().ok());
        let cells = cells.map(|cells| measure_text_width(&cells[at].text));
        cells.max().unwrap_or(0).max(measure_text_width(column.heading))
    });
    (first, widths.collect())
}

/// The yardsticks stand below each group: what it is to be measured against.
fn groups(results: &Results) -> Vec<(Group, Vec<&str>)> {
    let mut groups = results.groups();
    let yardsticks = groups.pop_if(|(group, _)| *group == Group::Yardstick);
    match yardsticks {
        Some(yardsticks) if groups.is_empty() => groups.push(yardsticks),
        Some((_, yardsticks)) => {
            for (_, servers) in &mut groups {
                servers.extend(&yardsticks);
            }
        }
        None => {}
    }
    groups
}

fn columns() -> Vec<TextColumn> {
    let mut cells: Vec<_> = COLUMNS
        .iter()
        .map(|column| TextColumn {
            heading: column.short,
            rank: column.rank,
            of: Box::new(|runs| median(column, runs)),
            column: Some(column),
        })
        .collect();
    let of = Box::new(farthest);
    cells.insert(1, TextColumn { heading: "±%", rank: 4, of, column: None });
    cells
}

fn median(column: &Column, runs: &[&Figures]) -> String {
    let spread = column.spread(runs);
    spread.map_or(number::NONE.to_owned(), |s| (column.show)(s.median))
}

/// Says how far the farthest run's rate lies from the median.
fn farthest(runs: &[&Figures]) -> String {
    let spread = Spread::of(runs.iter().map(|run| run.rate).collect());
    spread.map_or(number::NONE.to_owned(), |spread| {
        let Spread { median, least, most } = spread;
        number::percent((most - median).max(median - least) / median)
    })
}

fn line<'a>(
    results: &'a Results,
    workload: &Workload,
    server: &'a str,
    columns: &[TextColumn],
    best: &[Option<Spread>],
) -> ServerLine<'a> {
    let row = results.row(&workload.name, server);
    let why = row.as_ref().map_or(Some("not run".to_owned()), Finding::why);
    let Some(Finding::Measured(runs)) = row else {
        let content = Err(why.unwrap_or_default());
        return ServerLine { server, content, remark: String::new() };
    };
    let cells = columns.iter().zip(best);
    let cells = cells.map(|(cells, best)| cell(cells, &runs, *best));
    let content = Ok(cells.collect());
    ServerLine {
        server,
        content,
        remark: remark::of_row(runs.iter().map(|run| &*run.remarks)),
    }
}

fn cell(
    cells: &TextColumn,
    runs: &[&Figures],
    best: Option<Spread>,
) -> TextCell {
    let is_marked = |it: &Column| it.is_marked(runs, best.as_ref());
    TextCell {
        text: (cells.of)(runs),
        is_marked: cells.column.is_some_and(is_marked),
    }
}

/// Writes a line, and what it has no room for on lines below it.
fn write(
    line: &ServerLine<'_>,
    first: usize,
    widths: &[usize],
    width: Option<usize>,
    text: &mut String,
) {
    let (start, rest) = match &line.content {
        Ok(cells) => {
            (laid_out(line.server, cells, first, widths), line.remark.as_str())
        }
        Err(why) => (format!("{:first$} ", line.server), why.as_str()),
    };
    let used = measure_text_width(&start) + 1;
    let fits = |width| used + measure_text_width(rest) <= width;
    if rest.is_empty() || width.is_none_or(fits) {
        let _ = writeln!(text, "{}", format!("{start} {rest}").trim_end());
        return;
    }
    let _ = writeln!(text, "{}", start.trim_end());
    let indent = 2 * GAP;
    let room = width.unwrap_or(usize::MAX).saturating_sub(indent);
    for line in screen::wrap(rest, room) {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

fn laid_out(
    name: &str,
    cells: &[TextCell],
    first: usize,
    widths: &[usize],
) -> String {
    let mut line = format!("{name:first$} ");
    for (TextCell { text, is_marked }, width) in cells.iter().zip(widths) {
        let space = GAP - MARK.len() + width - measure_text_width(text);
        let mark = if *is_marked { MARK } else { "" };
        let mark_width = MARK.len();
        let _ = write!(line, "{:space$}{text}{mark:mark_width$}", "");
    }
    line
}

/// Explains the mark and the headings.
fn note(left_out: &[&str], width: usize) -> String {
    let mut note = format!(
        "{MARK}: the best model's median, and those not measurably different \
         from it: the runs overlap, or the medians are less than {} % apart. \
         ×: how many times that of the best model, by the medians; in \
         brackets, between any two runs. Tables have the medians of all runs. \
         REQ/S: requests a second, ±%: how far the farthest run lies from \
         that. P50 to P99.9: latency in µs. CPU: the server's processor time \
         in µs a request, USER and SYS its parts. SWITCH: context switches a \
         request. MEM, KERN: KiB that one more idle connection takes of the \
         processes and of the kernel. THR, PROC: threads, processes. GEN%: \
         how much of one processor the load generator used.",
        number::percent(APART)
    );
    if !left_out.is_empty() {
        let _ = write!(
            note,
            " No room for {}: a wider terminal, a pipe and the page show all.",
            number::list(
                &left_out.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
            )
        );
    }
    screen::fill(&note, width) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Outcome;
    use crate::sample;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        console::set_colors_enabled(false);
        for width in [60, 72, 80, 100, 120, 160, 200] {
            for line in render(&sample::full(), Some(width)).lines() {
                let columns = measure_text_width(line);
                assert!(columns <= width, "{columns} > {width}: {line}");
            }
        }
    }

    #[test]
    fn everything_fits_160_columns() {
        let text = render(&sample::full(), Some(160));
        assert!(text.contains("GEN%"));
        assert!(!text.contains("No room"), "{text}");
        let text = render(&sample::full(), Some(80));
        assert!(text.contains("No room for P99.9, KERN,"), "{text}");
        let heading = text.lines().find(|l| l.starts_with("One thread "));
        let headings: Vec<_> = heading.unwrap().split_whitespace().collect();
        assert!(headings.contains(&"P99"), "{headings:?}");
        assert!(!headings.contains(&"PROC"), "{headings:?}");
    }

    #[test]
    fn in_a_pipe_a_server_is_one_whole_line() {
        console::set_colors_enabled(false);
        let text = render(&sample::quick(), None);
        let lines = text.lines().filter(|l| l.starts_with("redis-server "));
        // Three workloads, below each of two groups.
        assert_eq!(lines.count(), 6);
        let (_, one) = text.split_once("(ping-50)\n").unwrap();
        let mut lines = one.lines();
        let line = lines.find(|l| l.starts_with("signal-driven "));
        assert_eq!(line.unwrap().split_whitespace().count(), COLUMNS.len() + 2);
        let blocking = "blocking                    can't: serves one client";
        assert!(one.contains(blocking), "{one}");
    }

    #[test]
    fn like_stands_with_like() {
        let text = render(&sample::quick(), None);
        let (one, many) = text.split_once("More than one thread").unwrap();
        assert!(one.contains("multiplexing-poll"));
        assert!(one.contains("bare-loop"));
        assert!(!one.contains("thread-per-connection"));
        let (many, _) = many.split_once("\n\n").unwrap();
        assert!(many.contains("thread-per-connection"));
        assert!(many.contains("async-io/posix-aio"));
        assert!(many.contains("bare-loop"));
        assert!(!many.contains("multiplexing-poll"));
    }

    #[test]
    fn reasons_and_remarks_are_told() {
        let text = render(&sample::full(), Some(80));
        for part in [
            "failed: a wrong reply",
            "took 1,018 connections; ",
            "load generator saturated",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn the_best_and_those_like_it_are_marked() {
        console::set_colors_enabled(false);
        let mut results = sample::of_costs(&[
            ("ping-50", "a", &[3.0, 3.1, 3.2]),
            ("ping-50", "b", &[3.15, 3.3, 3.4]),
            ("ping-50", "c", &[3.5, 3.6, 3.7]),
            ("ping-50", "bare-loop", &[2.0, 2.0, 2.0]),
        ]);
        results.workloads.retain(|workload| workload.name == "ping-50");
        for (run, rate) in results.runs.iter_mut().zip([1e3, 2e3, 3e3]) {
            let Outcome::Measured(figures) = &mut run.outcome else { panic!() };
            figures.rate = rate;
        }
        let marked = |results: &Results| -> Vec<String> {
            let text = render(results, None);
            let (_, table) = text.split_once("One thread").unwrap();
            let (table, _) = table.split_once("\n\n").unwrap();
            let words = table.split_whitespace();
            let marked = words.filter(|word| word.ends_with(MARK));
            marked.map(str::to_owned).collect()
        };
        let all = marked(&results);
        // The most requests, the least time, and what overlaps with that.
        for wanted in ["2,000*", "3.10*", "3.30*"] {
            assert!(all.contains(&wanted.to_owned()), "{wanted}: {all:?}");
        }
        // Neither another model, nor a yardstick that is better than all.
        for other in ["3.60*", "2.00*"] {
            assert!(!all.contains(&other.to_owned()), "{other}: {all:?}");
        }
        // One model alone is no best one.
        results.servers.retain(|server| server.title == "a");
        assert_eq!(marked(&results), [""; 0]);
    }

    #[test]
    fn nothing_makes_nothing() {
        assert_eq!(render(&Results::default(), Some(80)), "");
        let mut results = sample::full();
        results.runs.clear();
        assert!(render(&results, Some(80)).contains("blocking"));
        results.servers.clear();
        assert_eq!(render(&results, None), "");
    }
}
