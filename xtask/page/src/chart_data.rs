//! The charts of the page, made of results.

use compare::pick;
use compare::results::{Figures, Finding, Results};
use compare::spread::Spread;
use compare::workload::{self, Workload};
use lab::number;

use super::chart::{Cell, Chart, ChartRow, Kind};

/// The title of an axis of [`cost`].
const COST: &str = "server processor time, µs a request (log)";

fn cost(figures: &Figures) -> Option<f64> {
    Some(figures.cpu)
}

/// Dots on an axis that grows by factors.
const LOG: Kind = Kind::Dots { log: true, falling: false };

/// Takes one figure of a server under a workload.
fn cell(
    results: &Results,
    workload: &Workload,
    server: &str,
    figure: impl Fn(&Figures) -> Option<f64>,
) -> Cell {
    let row = results.row(&workload.name, server);
    if let Some(why) = row.as_ref().and_then(Finding::why) {
        return Cell::Not(why);
    }
    let spread = results.spread(&workload.name, server, figure);
    spread.map_or(Cell::Unknown, Cell::Known)
}

/// Makes all charts, in order; some may be empty.
pub fn all(results: &Results) -> Vec<Chart> {
    vec![
        throughput(results),
        processor(results),
        idle(results),
        memory(results),
        latency(results),
        pipelining(results),
        c10k(results),
    ]
}

type Pick = fn(&[Workload]) -> Vec<&Workload>;
type Figure = fn(&Figures) -> Option<f64>;

/// Completes a chart whose series are workloads: those that `pick` finds, each
/// with the name that `name` gives it.
fn by_workload(
    chart: Chart,
    results: &Results,
    pick: Pick,
    name: fn(&Workload) -> String,
    figure: Figure,
) -> Chart {
    let picked = pick(&results.workloads);
    let rows = rows(results, |server| {
        let cells = picked.iter().map(|w| cell(results, w, server, figure));
        cells.collect()
    });
    Chart {
        series: picked.iter().map(|workload| name(workload)).collect(),
        rows,
        missing: missing(results, pick),
        ..chart
    }
}

fn connections(workload: &Workload) -> String {
    number::some(workload.connections, "connection")
}

fn rows(results: &Results, cells: impl Fn(&str) -> Vec<Cell>) -> Vec<ChartRow> {
    let servers = results.servers.iter();
    let rows = servers.map(|it| row(results, &it.title, cells(&it.title)));
    rows.collect()
}

fn row(results: &Results, server: &str, cells: Vec<Cell>) -> ChartRow {
    ChartRow {
        name: server.to_owned(),
        group: results.group(server),
        cells,
        extra: Vec::new(),
        label: None,
        whisker: None,
    }
}

/// Lists the titles of those that a full run measures and this one did not.
fn missing(results: &Results, pick: Pick) -> Vec<String> {
    let all = workload::all().unwrap_or_default();
    let ran = |wanted: &&Workload| {
        results.workloads.iter().any(|w| w.name == wanted.name)
    };
    let missing = pick(&all).into_iter().filter(|w| !ran(w));
    missing.map(|workload| workload.title.clone()).collect()
}

fn throughput(results: &Results) -> Chart {
    let chart = Chart {
        id: "throughput",
        title: "Throughput by number of connections",
        lead: "Requests a second, as many as the server and the load \
               generator manage together; each connection has one request on \
               its way. Farther right is more."
            .to_owned(),
        axis: "requests a second".to_owned(),
        kind: Kind::Dots { log: false, falling: true },
        ..Chart::default()
    };
    let figure: Figure = |f| Some(f.rate);
    by_workload(chart, results, pick::by_connections, connections, figure)
}

fn processor(results: &Results) -> Chart {
    let chart = Chart {
        id: "processor",
        title: "Processor time by number of connections",
        lead: "What a request costs the server, all its threads and \
               processes together. Farther left is better; each step to the \
               right is a factor."
            .to_owned(),
        axis: COST.to_owned(),
        kind: LOG,
        ..Chart::default()
    };
    by_workload(chart, results, pick::by_connections, connections, cost)
}

fn idle(results: &Results) -> Chart {
    let chart = Chart {
        id: "idle",
        title: "Cost against idle connections",
        lead: "The classic picture: what a request costs while more and more \
               connections say nothing. A flat line has a model that hears \
               only of those that speak; a rising one looks at all of them \
               each time. Strong lines have grown by half or more."
            .to_owned(),
        axis: COST.to_owned(),
        kind: Kind::Lines { of: "idle connections" },
        ..Chart::default()
    };
    let name = |w: &Workload| number::count(w.idle as f64);
    of_two(by_workload(chart, results, pick::by_idle, name, cost))
}

fn pipelining(results: &Results) -> Chart {
    let chart = Chart {
        id: "pipelining",
        title: "Pipelining",
        lead: "What a request costs when a connection sends several at a \
               time: system calls and wake-ups are shared, parsing is not."
            .to_owned(),
        axis: COST.to_owned(),
        kind: LOG,
        ..Chart::default()
    };
    let name = |workload: &Workload| match workload.pipeline {
        1 => "1 at a time".to_owned(),
        number => number.to_string(),
    };
    of_two(by_workload(chart, results, pick::by_pipeline, name, cost))
}

/// Empties a chart of one series: a comparison with nothing is no picture.
fn of_two(mut chart: Chart) -> Chart {
    if chart.series.len() < 2 {
        chart.rows.clear();
    }
    chart
}

fn memory(results: &Results) -> Chart {
    let rows = results.servers.iter().map(|server| {
        let name = &server.title;
        let known = pick::memory(results, name);
        let unknown =
            || why_not(results, name).map_or(Cell::Unknown, Cell::Not);
        let part = |at: usize| {
            known.map_or_else(unknown, |known| Cell::Known(known[at]))
        };
        let label = |[process, kernel, _]: [Spread; 3]| {
            let [process, kernel] =
                [process, kernel].map(|it| number::figure(it.median));
            format!("{process} + {kernel}")
        };
        ChartRow {
            extra: vec![part(2)],
            label: known.map(label),
            whisker: known.map(|[.., both]| both),
            ..row(results, name, vec![part(0), part(1)])
        }
    });
    Chart {
        id: "memory",
        title: "Memory of a connection",
        lead: "What one more idle connection takes: in the server's \
               processes, and in the kernel, which holds both ends of it, the \
               load generator's too."
            .to_owned(),
        axis: "KiB a connection".to_owned(),
        kind: Kind::Bars,
        series: vec!["processes".to_owned(), "kernel".to_owned()],
        extra: vec!["together".to_owned()],
        rows: rows.collect(),
        missing: missing(results, |all| {
            all.iter().max_by_key(|w| w.idle).into_iter().collect()
        }),
    }
}

/// Says why a server has not as many connections as its memory is measured
/// with.
fn why_not(results: &Results, server: &str) -> Option<String> {
    let idle = results.workloads.iter().filter(|w| w.idle > 0);
    let mut rows = idle.filter_map(|w| results.row(&w.name, server));
    rows.find_map(|row| row.why())
}

fn latency(results: &Results) -> Chart {
    let open = pick::open(&results.workloads);
    let picked = open.or_else(|| pick::usual(&results.workloads));
    let lead = match (open, picked) {
        (Some(Workload { rate: Some(rate), connections, .. }), _) => format!(
            "How long requests took that were due at {} a second on {}, \
             counted from when they were due. A server that can't keep up \
             with that has all that waited on its account.",
            number::count(f64::from(*rate)),
            number::some(*connections, "connection")
        ),
        (_, Some(w)) => format!(
            "How long requests took on {}, each as fast as its replies came: \
             at a different rate for each server, and without the requests \
             that a slow one kept from being sent.",
            number::some(w.connections, "connection")
        ),
        _ => String::new(),
    };
    let percentiles: [(&str, Figure); 4] = [
        ("p50", |f| Some(f.p50)),
        ("p90", |f| Some(f.p90)),
        ("p99", |f| Some(f.p99)),
        ("p99.9", |f| Some(f.p999)),
    ];
    let rows = rows(results, |server| {
        let cells = percentiles.iter().map(|(_, figure)| match picked {
            Some(workload) => cell(results, workload, server, figure),
            None => Cell::Unknown,
        });
        cells.collect()
    });
    Chart {
        id: "latency",
        title: "Latency",
        lead,
        axis: "time to the reply, µs (log)".to_owned(),
        kind: LOG,
        series: percentiles.map(|(name, _)| name.to_owned()).to_vec(),
        rows,
        missing: missing(results, |all| pick::open(all).into_iter().collect()),
        ..Chart::default()
    }
}

fn c10k(results: &Results) -> Chart {
    let servers = results.servers.iter().filter_map(|server| {
        let round = pick::round(&results.workloads)?;
        Some(at_10k(results, round, &server.title))
    });
    Chart {
        id: "c10k",
        title: "Ten thousand clients",
        lead: "How many clients were held at the same time while PINGs went \
               round all of them, and how many PINGs a second and which p99 \
               that came to; or where it ended, and why."
            .to_owned(),
        axis: "clients held".to_owned(),
        kind: Kind::Bars,
        series: vec!["clients held".to_owned()],
        extra: vec!["PINGs a second".to_owned(), "p99, µs".to_owned()],
        rows: servers.collect(),
        missing: missing(results, |all| pick::round(all).into_iter().collect()),
    }
}

fn at_10k(results: &Results, round: &Workload, server: &str) -> ChartRow {
    let rate = cell(results, round, server, |f| Some(f.rate));
    let p99 = cell(results, round, server, |f| Some(f.p99));
    let held = match pick::held(results, round, server) {
        Some(held) => Cell::Count(held),
        None => rate.clone(),
    };
    let median =
        |cell: &Cell| cell.spread().map(|Spread { median, .. }| median);
    let label = match (median(&rate), median(&p99)) {
        (Some(rate), Some(p99)) => {
            let rate = number::short(rate);
            format!("{rate}/s, p99 {}", time(p99))
        }
        _ => match results.row(&round.name, server) {
            // How many are held is drawn, so it need not say that more can't.
            Some(Finding::Cannot { why, .. }) => why.to_owned(),
            row => row.and_then(|row| row.why()).unwrap_or_default(),
        },
    };
    ChartRow {
        extra: vec![rate, p99],
        label: Some(label),
        ..row(results, server, vec![held])
    }
}

/// Microseconds, as short as may be.
fn time(micros: f64) -> String {
    if micros >= 999.5 {
        format!("{} ms", number::figure(micros / 1_000.0))
    } else {
        format!("{} µs", number::figure(micros))
    }
}

/// The chart of the README: cost against idle connections, or what a request
/// costs if those were not measured.
pub fn for_readme(results: &Results) -> Chart {
    let idle = idle(results);
    if !idle.is_empty() {
        return idle;
    }
    let usual: Pick = |all| pick::usual(all).into_iter().collect();
    let axis = usual(&results.workloads).first().map(|workload| {
        format!("µs a request (log), {}", connections(workload))
    });
    let chart = Chart {
        title: "Processor time a request",
        axis: axis.unwrap_or_default(),
        kind: LOG,
        ..Chart::default()
    };
    by_workload(chart, results, usual, connections, cost)
}
