//! Writes every run as a line of `runs.csv`, as soon as it has ended.

use std::fs::File;

use anyhow::{Context, Result};
use camino::Utf8Path;
use csv::{StringRecord, Writer, WriterBuilder};
use serde::Serialize;

use super::results::{Figures, Outcome, Run};

/// The name of the file with the runs of single servers.
pub const FILE: &str = "runs.csv";

/// The name of the file with the runs of pairs.
pub const PAIRS: &str = "pairs.csv";

/// The cells that identify a run and its outcome. The figures follow, with
/// empty cells if there are none.
#[derive(Debug, Default, Serialize)]
struct Head<'a> {
    workload: &'a str,
    server: &'a str,
    run: usize,
    outcome: &'static str,
    reason: &'a str,
    /// Seconds since the comparison began.
    began_at_s: f64,
    took_s: f64,
}

/// The open file.
#[derive(Debug)]
pub struct RunLog {
    writer: Writer<File>,
    /// The number of columns for the figures.
    figures: usize,
}

impl RunLog {
    /// Creates the file and writes the heading.
    pub fn create(path: &Utf8Path) -> Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot create {path}"))?;
        let mut builder = WriterBuilder::new();
        let mut writer = builder.has_headers(false).from_writer(file);
        writer.write_record(&heading::<(Head<'_>, Figures)>()?)?;
        writer.flush()?;
        Ok(Self { writer, figures: heading::<Figures>()?.len() })
    }

    /// Adds a run. `began` is in seconds since the comparison began, `took` is
    /// in seconds.
    pub fn write(&mut self, run: &Run, began: f64, took: f64) -> Result<()> {
        let (outcome, reason) = match &run.outcome {
            Outcome::Measured(_) => ("measured", ""),
            Outcome::Cannot { why, .. } => ("cannot", why.as_str()),
            Outcome::Failed(why) => ("failed", why.as_str()),
        };
        let head = Head {
            workload: &run.workload,
            server: &run.server,
            run: run.number,
            outcome,
            reason,
            began_at_s: began,
            took_s: took,
        };
        match &run.outcome {
            Outcome::Measured(figures) => {
                self.writer.serialize((head, figures))
            }
            _ => self.writer.serialize((head, vec![""; self.figures])),
        }
        .and_then(|()| Ok(self.writer.flush()?))
        .context("runs.csv")
    }
}

/// Returns the column names of a record.
fn heading<T: Default + Serialize>() -> Result<StringRecord> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.serialize(T::default())?;
    let text = writer.into_inner()?;
    Ok(csv::Reader::from_reader(text.as_slice()).headers()?.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the file after two runs, one without and one with figures.
    fn written() -> String {
        let name = format!("compare-raw-{}.csv", std::process::id());
        let path = std::env::temp_dir().join(name);
        let path = Utf8Path::from_path(&path).unwrap();
        let mut raw = RunLog::create(path).unwrap();
        let figures = Figures {
            p999: 12.5,
            client: 0.25,
            kernel: Some(4.0),
            threads: 3,
            ..Figures::default()
        };
        let why = "one, and \"only\" one".to_owned();
        for (number, outcome) in [
            (1, Outcome::Cannot { why, held: None }),
            (2, Outcome::Measured(figures)),
        ] {
            let run = Run {
                workload: "ping-50".to_owned(),
                server: "blocking".to_owned(),
                number,
                outcome,
            };
            raw.write(&run, 1.0, 0.5).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::remove_file(path).unwrap();
        text
    }

    #[test]
    fn each_run_is_a_line_with_every_column() {
        let text = written();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let heading = reader.headers().unwrap().clone();
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        let cell = |line: usize, name: &str| {
            let at = heading.iter().position(|column| column == name);
            records[line].get(at.unwrap()).unwrap()
        };
        assert_eq!(records.len(), 2);
        assert_eq!(cell(0, "run"), "1");
        assert_eq!(cell(0, "outcome"), "cannot");
        assert_eq!(cell(0, "reason"), "one, and \"only\" one");
        assert_eq!(cell(0, "took_s"), "0.5");
        assert_eq!(cell(1, "outcome"), "measured");
        assert_eq!(cell(1, "p99_9_us"), "12.5");
        assert_eq!(cell(1, "client_cpu"), "0.25");
        assert_eq!(cell(1, "threads"), "3");
        assert_eq!(cell(1, "kernel_kib_per_connection"), "4.0");
        assert_eq!(cell(1, "process_kib_per_connection"), "");
        let known = super::heading::<Head<'_>>().unwrap().len();
        assert!(records[0].iter().skip(known).all(str::is_empty));
    }
}
