//! Tables of numbers: those of a chart, and all figures of each workload.

use compare::columns::{COLUMNS, Column};
use compare::remark;
use compare::results::{Figures, Finding, Group, Results};
use compare::spread::Spread;
use compare::summary::MARK;
use compare::workload::Workload;
use lab::number;
use maud::{Markup, html};

use super::chart::{Cell, Chart};
use super::shell::boxed;

/// Makes the table of a chart's values, group by group.
pub fn of_chart(chart: &Chart) -> Markup {
    let columns = chart.series.len() + chart.extra.len() + 1;
    let table = html! {
        table {
            caption { (chart.title) ": " (unit(chart)) }
            thead { tr {
                th scope="col" { "Server" }
                @for heading in chart.series.iter().chain(&chart.extra) {
                    th scope="col" { (heading) }
                }
            } }
            @for (group, rows) in chart.groups() {
                tbody {
                    tr { th .group colspan=(columns) scope="rowgroup" {
                        (group.title())
                    } }
                    @for row in rows {
                        tr {
                            th scope="row" { (row.name) }
                            @let cells: Vec<_> =
                                row.cells.iter().chain(&row.extra).collect();
                            @for same in cells.chunk_by(same_reason) {
                                (cell_of_chart(same[0], same.len()))
                            }
                        }
                    }
                }
            }
        }
    };
    boxed(chart.title, &table)
}

/// Returns the axis title without the type of scale.
fn unit(chart: &Chart) -> &str {
    chart.axis.trim_end_matches(" (log)")
}

/// Returns whether two cells share a reason, which is then shown once.
fn same_reason(a: &&Cell, b: &&Cell) -> bool {
    matches!((a, b), (Cell::Not(a), Cell::Not(b)) if a == b)
}

fn cell_of_chart(cell: &Cell, columns: usize) -> Markup {
    html! {
        @match cell {
            Cell::Known(spread) => td {
                (number::figure(spread.median))
                @if let Some(range) = spread.range() {
                    " " span .range { (range) }
                }
            },
            Cell::Not(why) => td .why colspan=(columns) { (why) },
            Cell::Count(_) | Cell::Unknown => td { (cell.text()) },
        }
    }
}

/// Makes the tables of every workload: each group with the yardsticks below it,
/// then all servers together.
pub fn all(results: &Results) -> Markup {
    html! {
        section .wide #tables {
            h2 { "Tables" }
            p {
                "All figures of all workloads: the median, and with several "
                "runs their range below. Latencies are in microseconds. "
                (MARK) " marks the best model, and servers not measurably "
                "different from it. Every run is a line of "
                code { "runs.csv" } ", in the same folder as this page."
            }
            @for workload in &results.workloads {
                (workload_tables(results, workload))
            }
            @if results.workloads.is_empty() { p { "No workloads." } }
        }
    }
}

fn workload_tables(results: &Results, workload: &Workload) -> Markup {
    let groups = results.groups();
    let yardsticks: Vec<_> = servers(&groups, Group::Yardstick).collect();
    let mut together: Vec<_> =
        results.servers.iter().map(|s| s.title.as_str()).collect();
    let cost = |server: &&str| {
        let spread = results.spread(&workload.name, server, |f| Some(f.cpu));
        spread.map_or(f64::INFINITY, |spread| spread.median)
    };
    together.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    html! {
        section #(format!("workload-{}", workload.name)) {
            h3 { (workload.title) " " code { (workload.name) } }
            @for group in [Group::OneThread, Group::ManyThreads] {
                @let models: Vec<_> = servers(&groups, group).collect();
                @if !models.is_empty() {
                    (table(results, workload, group.title(),
                        &[&models, &yardsticks]))
                }
            }
            details .again {
                summary { "All servers, sorted by processor time" }
                (table(results, workload, "All servers", &[&together]))
            }
        }
    }
}

fn servers<'a>(
    groups: &[(Group, Vec<&'a str>)],
    wanted: Group,
) -> impl Iterator<Item = &'a str> {
    let found = groups.iter().filter(move |(group, _)| *group == wanted);
    found.flat_map(|(_, servers)| servers.clone())
}

/// Makes a table with a separate body for each part.
fn table(
    results: &Results,
    workload: &Workload,
    title: &str,
    parts: &[&[&str]],
) -> Markup {
    let label = format!("{}: {title}", workload.title);
    let best = COLUMNS.map(|column| column.best(results, &workload.name));
    let table = html! {
        table .figures {
            caption { (title) }
            thead { tr {
                th scope="col" { "Server" }
                @for Column { name, unit, .. } in &COLUMNS {
                    th scope="col" { (name) " " span .unit { (unit) } }
                }
                th scope="col" { "Remark" }
            } }
            @for part in parts.iter().filter(|part| !part.is_empty()) {
                tbody {
                    @for server in *part {
                        (row(results, workload, server, &best))
                    }
                }
            }
        }
    };
    boxed(&label, &table)
}

/// Makes a server's row. `best` has the best model's spread in each column.
fn row(
    results: &Results,
    workload: &Workload,
    server: &str,
    best: &[Option<Spread>],
) -> Markup {
    let row = results.row(&workload.name, server);
    let why = row.as_ref().map_or(Some("not run".to_owned()), Finding::why);
    html! {
        tr {
            th scope="row" { (server) }
            @if let Some(why) = why {
                td .why colspan=(COLUMNS.len() + 1) { (why) }
            }
            @if let Some(Finding::Measured(runs)) = row {
                    @for (column, best) in COLUMNS.iter().zip(best) {
                        (cell(column, &runs, best.as_ref()))
                    }
                    td .why {
                        (remark::of_row(runs.iter().map(|run| &*run.remarks)))
                    }
            }
        }
    }
}

fn cell(column: &Column, runs: &[&Figures], best: Option<&Spread>) -> Markup {
    let spread = column.spread(runs);
    html! {
        td {
            @if let Some(spread) = spread {
                ((column.show)(spread.median))
                @if column.is_marked(runs, best) { span .mark { (MARK) } }
                @if let Some(range) = spread.range().filter(|_| column.spread) {
                    " " span .range { (range) }
                }
            } @else {
                (number::NONE)
            }
        }
    }
}
