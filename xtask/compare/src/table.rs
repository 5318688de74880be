//! Formats results for a terminal: the summary, and tables for each workload.

use std::fmt::Write;

use console::style;
use lab::table::{self, Row, Table};
use lab::{number, screen};

use super::columns::{COLUMNS, Column};
use super::remark;
use super::results::{Figures, Finding, Group, Results};
use super::spread::{APART, Spread};
use super::summary::{self, MARK};
use super::workload::Workload;

/// Formats the summary, and tables for each workload, all with the same
/// columns. A terminal shows the columns that fit; without a width, for a pipe,
/// each server is one line with all columns.
pub fn render(results: &Results, width: Option<usize>) -> String {
    let room = width.unwrap_or(usize::MAX);
    let groups = groups(results);
    let sections = results.workloads.iter().map(|workload| {
        let title = format!("{} ({})", workload.title, workload.name);
        (title, rows(results, workload, &groups))
    });
    let sections: Vec<_> = sections.collect();
    let rows = sections.iter().flat_map(|(_, rows)| rows).cloned();
    let table =
        Table { columns: columns(), text: String::new(), rows: rows.collect() };
    let layout = table.layout(width);
    let mut text = summarized(results, room);
    if groups.is_empty() {
        return text;
    }
    for (title, rows) in &sections {
        text += &(title_lines(title, room) + "\n");
        rows.iter().for_each(|row| text += &layout.row(row));
    }
    text + &note(&layout.left_out(), room)
}

fn title_lines(title: &str, room: usize) -> String {
    let lines = screen::wrap(title, room).into_iter();
    lines.map(|line| format!("{}\n", style(line).bold())).collect()
}

/// Formats the rankings and the warnings.
fn summarized(results: &Results, room: usize) -> String {
    let rankings = summary::rankings(results);
    let parts = rankings.iter().map(|ranking| {
        let rows = ranking.lines().into_iter().map(|mut cells| {
            cells[0].insert_str(0, "  ");
            Row { cells: cells.to_vec(), text: String::new() }
        });
        (&ranking.title, rows.collect::<Vec<_>>())
    });
    let parts: Vec<_> = parts.collect();
    let left = || table::Column::left("");
    let table = Table {
        columns: vec![left(), table::Column::right(""), left(), left()],
        text: String::new(),
        rows: parts.iter().flat_map(|(_, rows)| rows).cloned().collect(),
    };
    let layout = table.layout(None);
    let mut text = String::new();
    for (title, rows) in &parts {
        text += &title_lines(title, room);
        rows.iter().for_each(|row| text += &layout.row(row));
        text.push('\n');
    }
    let cautions = summary::cautions(results).join(" ");
    if !results.servers.is_empty() && !cautions.is_empty() {
        text += &(screen::fill(&cautions, room) + "\n\n");
    }
    text
}

/// Returns the groups of servers, each with the yardsticks at its end.
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

/// Makes the columns: names, figures, and after the rate its spread.
fn columns() -> Vec<table::Column> {
    let figures = COLUMNS.iter();
    let figures =
        figures.map(|it| table::Column::right(it.short).rank(it.rank));
    let mut columns = vec![table::Column::left("")];
    columns.extend(figures);
    columns.insert(2, table::Column::right("±%").rank(4));
    columns
}

/// Makes the rows of a workload: for each group its headings, its servers and
/// an empty row.
fn rows(
    results: &Results,
    workload: &Workload,
    groups: &[(Group, Vec<&str>)],
) -> Vec<Row> {
    let best = COLUMNS.each_ref().map(|it| it.best(results, &workload.name));
    let mut rows = Vec::new();
    for (group, servers) in groups {
        let headings = COLUMNS.iter().map(|it| it.marked(it.short, false));
        let headings = headings.collect();
        rows.push(row(group.title(), headings, "±%".to_owned()));
        rows.extend(servers.iter().map(|server| {
            let finding = results.row(&workload.name, server);
            server_row(server, finding.as_ref(), &best)
        }));
        rows.push(Row::default());
    }
    rows
}

fn server_row(
    server: &str,
    finding: Option<&Finding<'_>>,
    best: &[Option<Spread>],
) -> Row {
    let Some(Finding::Measured(runs)) = finding else {
        let why = finding.map_or(Some("not run".to_owned()), Finding::why);
        let (cells, text) = (vec![server.to_owned()], why.unwrap_or_default());
        return Row { cells, text };
    };
    let cells = COLUMNS.iter().zip(best);
    let cells = cells.map(|(column, best)| cell(column, runs, best.as_ref()));
    let text = remark::of_row(runs.iter().map(|run| &*run.remarks));
    Row { text, ..row(server, cells.collect(), farthest(runs)) }
}

fn row(name: &str, mut cells: Vec<String>, farthest: String) -> Row {
    cells.insert(1, farthest);
    cells.insert(0, name.to_owned());
    Row { cells, text: String::new() }
}

/// Formats the median of the runs, with a mark if it is the best model's or not
/// measurably different from it.
fn cell(column: &Column, runs: &[&Figures], best: Option<&Spread>) -> String {
    let spread = column.spread(runs);
    let median = spread
        .map_or(number::NONE.to_owned(), |spread| (column.show)(spread.median));
    column.marked(&median, column.is_marked(runs, best))
}

/// Formats the largest deviation of a run's rate from the median, in percent.
fn farthest(runs: &[&Figures]) -> String {
    let spread = Spread::of(runs.iter().map(|run| run.rate).collect());
    spread.map_or(number::NONE.to_owned(), |spread| {
        let Spread { median, least, most } = spread;
        number::percent((most - median).max(median - least) / median)
    })
}

/// Explains the mark and the headings.
fn note(left_out: &[String], width: usize) -> String {
    let mut note = format!(
        "{MARK}: the best model, and servers not measurably different from \
         it: the runs overlap, or the medians differ by less than {} %. ×: \
         ratio to the best model, by the medians; in parentheses, the range \
         over any two runs. Tables show the medians of all runs. REQ/S: \
         requests per second; ±%: largest deviation of a run from the median. \
         P50 to P99.9: latency in µs. CPU: the server's processor time in µs \
         per request; USER, SYS: its parts. SWITCH: context switches per \
         request. MEM, KERN: KiB per additional idle connection, in the \
         processes and in the kernel. THR, PROC: threads, processes. GEN%: \
         use of one processor by the load generator.",
        number::percent(APART)
    );
    if !left_out.is_empty() {
        let _ = write!(
            note,
            " Omitted here: {}. A wider terminal, a pipe and the page show \
             all columns.",
            number::list(left_out)
        );
    }
    screen::fill(&note, width) + "\n"
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

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
        assert!(!text.contains("Omitted here"), "{text}");
        let text = render(&sample::full(), Some(80));
        let text_in_one_line = text.replace('\n', " ");
        let omitted = "Omitted here: P90, P99.9,";
        assert!(text_in_one_line.contains(omitted), "{text}");
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
        // Three workloads, with the yardsticks in each of two groups.
        assert_eq!(lines.count(), 6);
        let (_, one) = text.split_once("(ping-50)\n").unwrap();
        let mut lines = one.lines();
        let line = lines.find(|l| l.starts_with("signal-driven "));
        assert_eq!(line.unwrap().split_whitespace().count(), COLUMNS.len() + 2);
        let blocking = "blocking                    can't: serves one client";
        assert!(one.contains(blocking), "{one}");
    }

    #[test]
    fn groups_have_tables_of_their_own() {
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
    fn reasons_and_remarks_are_shown() {
        let text = render(&sample::full(), Some(80));
        for part in [
            "failed: a wrong reply",
            "accepted 1,018 connections; ",
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
        // The highest rate, the lowest cost, and a cost that overlaps with it.
        for wanted in ["2,000*", "3.10*", "3.30*"] {
            assert!(all.contains(&wanted.to_owned()), "{wanted}: {all:?}");
        }
        // Neither a slower model, nor a yardstick that is better than all.
        for other in ["3.60*", "2.00*"] {
            assert!(!all.contains(&other.to_owned()), "{other}: {all:?}");
        }
        // A single model isn't marked.
        results.servers.retain(|server| server.title == "a");
        assert_eq!(marked(&results), [""; 0]);
    }

    #[test]
    fn empty_results_have_no_text() {
        assert_eq!(render(&Results::default(), Some(80)), "");
        let mut results = sample::full();
        results.runs.clear();
        assert!(render(&results, Some(80)).contains("blocking"));
        results.servers.clear();
        assert_eq!(render(&results, None), "");
        let nan = sample::of_costs(&[("ping-50", "a", &[f64::NAN; 3])]);
        let text = render(&nan, None);
        assert!(!text.contains("NaN") && text.contains(number::NONE), "{text}");
    }
}
