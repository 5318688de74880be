//! Makes the page's charts from the results.

use compare::pick;
use compare::results::{Figures, Finding, Results};
use compare::spread::Spread;
use compare::workload::{self, Workload};
use lab::number;
use load::mixed::Heavy;
use load::request::Request;

use super::chart::{Cell, Chart, ChartRow, Kind};

/// The title of an axis of [`cost`].
const COST: &str = "server processor time, µs per request (log)";

fn cost(figures: &Figures) -> Option<f64> {
    Some(figures.cpu)
}

/// Dots on a logarithmic axis.
const LOG: Kind = Kind::Dots { log: true, falling: false };

/// Returns one figure of a server under a workload.
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
        held_up(results),
        work(results),
        pipelining(results),
        c10k(results),
    ]
}

type Pick = fn(&[Workload]) -> Vec<&Workload>;
type Figure = fn(&Figures) -> Option<f64>;

/// Completes a chart whose series are the workloads that `pick` returns, named
/// by `name`.
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

/// Returns the titles of workloads that a full run measures and this one
/// didn't.
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
        lead: "Requests per second that the server and the load generator \
               reach together, with one outstanding request per connection. \
               Farther right is better."
            .to_owned(),
        axis: "requests per second".to_owned(),
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
        lead: "The server's processor time per request, for all its threads \
               and processes. Farther left is better; the axis is \
               logarithmic."
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
        lead: "Processor time per request while more and more connections \
               are idle. The line of a model that is notified of active \
               connections only is flat; it rises if the model or the kernel \
               examines all connections each time. Bold lines have risen by \
               half or more."
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
        lead: "Processor time per request when a connection sends several \
               requests at once. They share system calls and wake-ups, but \
               each is parsed."
            .to_owned(),
        axis: COST.to_owned(),
        kind: LOG,
        ..Chart::default()
    };
    let name = |workload: &Workload| match workload.pipeline {
        1 => "1 request".to_owned(),
        number => number.to_string(),
    };
    of_two(by_workload(chart, results, pick::by_pipeline, name, cost))
}

/// Empties a chart with fewer than two series, which compares nothing.
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
        title: "Memory per connection",
        lead: "Memory per additional idle connection, in the server's \
               processes and in the kernel. The kernel's part includes the \
               load generator's end of the connection."
            .to_owned(),
        axis: "KiB per connection".to_owned(),
        kind: Kind::Bars,
        series: vec!["processes".to_owned(), "kernel".to_owned()],
        extra: vec!["together".to_owned()],
        rows: rows.collect(),
        missing: missing(results, |all| {
            all.iter().max_by_key(|w| w.idle).into_iter().collect()
        }),
    }
}

/// Returns the reason why a server has too few connections to measure their
/// memory.
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
            "Latency of requests that are due at {} per second on {} (open \
             loop), from the time at which a request is due. It includes the \
             waiting time of requests if a server can't keep up.",
            number::count(f64::from(*rate)),
            number::some(*connections, "connection")
        ),
        (_, Some(w)) => format!(
            "Latency of requests on {} in a closed loop: each connection \
             sends when it has its reply. The rate differs between servers, \
             and requests that a slow server delays are never sent \
             (coordinated omission).",
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

fn held_up(results: &Results) -> Chart {
    let chart = Chart {
        id: "held-up",
        title: "Held up by others",
        lead: "The p99 latency of PINGs that are due at a fixed rate, while \
               one request in a hundred takes time. A model that processes \
               requests of several clients on one thread lets all of them \
               wait. Farther left is better."
            .to_owned(),
        axis: "time to the reply, µs (log)".to_owned(),
        kind: LOG,
        ..Chart::default()
    };
    let name = |workload: &Workload| match workload.heavy {
        Some(Heavy { request: Request::Sleep(ms), .. }) => {
            format!("it sleeps for {ms} ms")
        }
        Some(Heavy { request: Request::Spin(micros), .. }) => {
            format!("it computes for {micros} µs")
        }
        _ => workload.name.clone(),
    };
    let p99: Figure = |figures| Some(figures.p99);
    by_workload(chart, results, pick::by_heavy, name, p99)
}

fn work(results: &Results) -> Chart {
    let chart = Chart {
        id: "work",
        title: "Throughput against work per request",
        lead: "Requests per second if each request computes for some time, in \
               a closed loop. The more it computes, the less the model \
               matters, and the more a second processor does."
            .to_owned(),
        axis: "requests per second (log)".to_owned(),
        kind: Kind::Dots { log: true, falling: true },
        ..Chart::default()
    };
    let name = |workload: &Workload| match pick::work(workload) {
        0 => "PING".to_owned(),
        micros => format!("{micros} µs"),
    };
    let rate: Figure = |figures| Some(figures.rate);
    of_two(by_workload(chart, results, pick::by_work, name, rate))
}

fn c10k(results: &Results) -> Chart {
    let servers = results.servers.iter().filter_map(|server| {
        let round = pick::round(&results.workloads)?;
        Some(at_10k(results, round, &server.title))
    });
    Chart {
        id: "c10k",
        title: "Ten thousand clients",
        lead: "Clients connected at the same time while all of them send a \
               PING in turn, with the rate and the p99 latency of the PINGs; \
               or the limit of the server, and its cause."
            .to_owned(),
        axis: "clients held".to_owned(),
        kind: Kind::Bars,
        series: vec!["clients held".to_owned()],
        extra: vec!["PINGs per second".to_owned(), "p99, µs".to_owned()],
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
            // The bar shows the limit, so the label is only its cause.
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

/// Formats microseconds briefly.
fn time(micros: f64) -> String {
    if micros >= 999.5 {
        format!("{} ms", number::figure(micros / 1_000.0))
    } else {
        format!("{} µs", number::figure(micros))
    }
}

/// Makes the chart of the README: cost against idle connections, or if these
/// weren't measured, cost with the usual number of connections.
pub fn for_readme(results: &Results) -> Chart {
    let idle = idle(results);
    if !idle.is_empty() {
        return idle;
    }
    let usual: Pick = |all| pick::usual(all).into_iter().collect();
    let axis = usual(&results.workloads).first().map(|workload| {
        format!("µs per request (log), {}", connections(workload))
    });
    let chart = Chart {
        title: "Processor time per request",
        axis: axis.unwrap_or_default(),
        kind: LOG,
        ..Chart::default()
    };
    by_workload(chart, results, usual, connections, cost)
}
