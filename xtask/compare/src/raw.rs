//! Every run as a line of `runs.csv`, written as soon as it is over.

use std::fs::File;

use anyhow::{Context, Result};
use camino::Utf8Path;

use super::results::{Figures, Outcome, Run};

/// The columns. Times are in microseconds, sizes in KiB.
const COLUMNS: [&str; 26] = [
    "workload",
    "server",
    "run",
    "outcome",
    "reason",
    "seconds",
    "requests",
    "requests_per_second",
    "p50_us",
    "p90_us",
    "p99_us",
    "p99_9_us",
    "server_cpu_us_per_request",
    "server_cpu_us_per_request_without_idle",
    "server_user_us_per_request",
    "server_system_us_per_request",
    "context_switches_per_request",
    "process_kib_per_connection",
    "kernel_kib_per_connection",
    "threads",
    "processes",
    "client_cpu",
    "connections",
    "remark",
    "began_at_s",
    "took_s",
];

/// The file's name.
pub const FILE: &str = "runs.csv";

#[derive(Debug)]
pub struct Raw {
    writer: csv::Writer<File>,
}

impl Raw {
    pub fn create(path: &Utf8Path) -> Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot create {path}"))?;
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(COLUMNS)?;
        writer.flush()?;
        Ok(Self { writer })
    }

    /// `began` and `took` are seconds, the first since the comparison began.
    pub fn write(&mut self, run: &Run, began: f64, took: f64) -> Result<()> {
        self.writer
            .write_record(record(run, began, took))
            .and_then(|()| Ok(self.writer.flush()?))
            .context("runs.csv")
    }
}

fn record(run: &Run, began: f64, took: f64) -> [String; COLUMNS.len()] {
    let (outcome, reason, figures) = match &run.outcome {
        Outcome::Measured(figures) => ("measured", "", Some(figures)),
        Outcome::Cannot(why) => ("cannot", why.as_str(), None),
        Outcome::Failed(why) => ("failed", why.as_str(), None),
    };
    let one = |of: fn(&Figures) -> f64, digits: usize| {
        figures.map_or(String::new(), |run| format!("{:.digits$}", of(run)))
    };
    let maybe = |of: fn(&Figures) -> Option<f64>| {
        let value = figures.and_then(of);
        value.map_or(String::new(), |value| format!("{value:.4}"))
    };
    [
        run.workload.clone(),
        run.server.clone(),
        run.number.to_string(),
        outcome.to_owned(),
        reason.to_owned(),
        one(|f| f.seconds, 6),
        one(|f| f.requests, 0),
        one(|f| f.rate, 1),
        one(|f| f.p50, 3),
        one(|f| f.p90, 3),
        one(|f| f.p99, 3),
        one(|f| f.p999, 3),
        one(|f| f.cpu, 4),
        maybe(|f| f.alone),
        maybe(|f| f.user),
        maybe(|f| f.system),
        one(|f| f.switches, 6),
        maybe(|f| f.memory),
        maybe(|f| f.kernel),
        one(|f| f.threads, 0),
        one(|f| f.processes, 0),
        one(|f| f.client, 4),
        one(|f| f.connections, 0),
        figures.and_then(|f| f.remark.clone()).unwrap_or_default(),
        format!("{began:.3}"),
        format!("{took:.3}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_figures_has_empty_cells() {
        let run = Run {
            workload: "ping-50".to_owned(),
            server: "blocking".to_owned(),
            number: 2,
            outcome: Outcome::Cannot("one, and \"only\" one".to_owned()),
            ended_at: None,
        };
        let record = record(&run, 1.0, 0.5);
        assert_eq!(
            record[..5],
            ["ping-50", "blocking", "2", "cannot", "one, and \"only\" one"]
        );
        assert!(record[5..23].iter().all(String::is_empty));
    }

    #[test]
    fn figures_stand_in_their_columns() {
        let figures = Figures {
            p999: 12.5,
            client: 0.25,
            kernel: Some(4.0),
            ..Figures::default()
        };
        let run = Run {
            workload: String::new(),
            server: String::new(),
            number: 1,
            outcome: Outcome::Measured(figures),
            ended_at: None,
        };
        let record = record(&run, 0.0, 0.0);
        let cell = |name| {
            let at = COLUMNS.iter().position(|column| *column == name);
            record[at.unwrap()].as_str()
        };
        assert_eq!(cell("p99_9_us"), "12.500");
        assert_eq!(cell("client_cpu"), "0.2500");
        assert_eq!(cell("kernel_kib_per_connection"), "4.0000");
        assert_eq!(cell("process_kib_per_connection"), "");
    }
}
