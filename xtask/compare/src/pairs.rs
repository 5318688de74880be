//! Pairs of programs that take turns under the same load: each model with its
//! minimal program, which shows what the policies cost, or with another build.

use std::fmt::Write;

use anyhow::{Result, ensure};
use camino::Utf8Path;
use lab::model::Workspace;
use lab::number::{NONE, figure};
use lab::screen;
use lab::table::{Column, Row, Table};

use super::contender::Contender;
use super::results::{Figures, Finding, Results, Server};
use super::spread::Spread;
use super::workload::Workload;

/// The number of runs, and the length of one in seconds. The servers of a pair
/// take turns, so short runs suffice.
pub const RUNS: usize = 7;
pub const SECONDS: f64 = 0.3;

/// The workloads of [`Other::Minimal`]. A minimal program serves streams only,
/// and has no bounds for many idle clients.
pub const WORKLOADS: [&str; 3] = ["ping-50", "pipeline-16", "pipeline-64"];

/// The second program of each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// The model's minimal program.
    Minimal,
    /// The program of that name in another build.
    Baseline,
}

impl Other {
    pub const fn title(self) -> &'static str {
        match self {
            Self::Minimal => "The cost of policies",
            Self::Baseline => "This build and the baseline",
        }
    }

    /// Returns the headings of the other program, and of the ratio.
    pub const fn headings(self) -> [&'static str; 2] {
        match self {
            Self::Minimal => ["minimal", "policies cost"],
            Self::Baseline => ["baseline", "ratio"],
        }
    }

    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Minimal => {
                "Processor time per request, in microseconds, of each model \
                 and of its minimal program, which has none of the policies. \
                 The two take turns of 20 ms in each run. \"Policies cost\" \
                 is the ratio of the two: the median of all runs, and their \
                 range. Models that serve one client at a time are measured \
                 with one connection, and pools with as many as the minimal \
                 program has workers. A minimal program is written to be \
                 read, so it may do more than its model does: it allocates \
                 a buffer per request, for example. Such a ratio is below 1."
            }
            Self::Baseline => {
                "Processor time per request, in microseconds, of each model \
                 and of the same program of another build. The two take turns \
                 of 20 ms in each run. The ratio is the median of all runs, \
                 with their range."
            }
        }
    }
}

/// Returns each chosen model, followed by its minimal program. Leaves out
/// variants without one.
pub fn with_minimal(
    workspace: &Workspace,
    models: Vec<Contender>,
) -> Result<Vec<Contender>> {
    let pair = |it: Contender| {
        let (model, variant) = it.variant()?;
        let minimal = Contender::minimal(workspace, model, variant)?;
        Some([it, minimal])
    };
    let pairs: Vec<_> = models.into_iter().filter_map(pair).collect();
    ensure!(
        !pairs.is_empty(),
        "--minimal: none of the chosen models has a minimal program of its own"
    );
    Ok(pairs.into_iter().flatten().collect())
}

/// Returns each chosen model, followed by that of another build. Leaves out
/// those that the other build doesn't have.
pub fn with_baseline(
    folder: &Utf8Path,
    models: Vec<Contender>,
) -> Result<Vec<Contender>> {
    let pair = |it: Contender| {
        let baseline = it.in_build(folder);
        baseline.exists().then_some([it, baseline])
    };
    let pairs: Vec<_> = models.into_iter().filter_map(pair).collect();
    ensure!(
        !pairs.is_empty(),
        "--baseline {folder}: contains none of the models; name a folder of \
         release binaries, for example target/release of another clone"
    );
    Ok(pairs.into_iter().flatten().collect())
}

/// The measured pairs.
#[derive(Debug)]
pub struct Pairs {
    pub other: Other,
    /// The servers of a pair are neighbours.
    pub results: Results,
}

/// The figures of one pair under one load.
#[derive(Debug)]
pub struct Pair<'a> {
    pub server: &'a str,
    /// Figures of the server and of the other; none if there is a reason.
    pub figures: Option<[Vec<&'a Figures>; 2]>,
    pub ratio: Option<Spread>,
    pub why: Option<String>,
}

impl Pair<'_> {
    /// Returns the median of a figure for the server and the other.
    pub fn medians(
        &self,
        figure: fn(&Figures) -> Option<f64>,
    ) -> Option<[f64; 2]> {
        let [one, other] = self.figures.as_ref()?;
        let median = |runs: &[&Figures]| {
            let values = runs.iter().filter_map(|run| figure(run));
            Spread::of(values.collect()).map(|spread| spread.median)
        };
        Some([median(one)?, median(other)?])
    }
}

impl Pairs {
    /// Returns the pairs, with their ratio of processor time per request.
    pub fn of(&self, workload: &Workload) -> Vec<Pair<'_>> {
        let pairs = self.results.servers.chunks_exact(2);
        pairs.map(|pair| self.pair(&workload.name, pair)).collect()
    }

    fn pair<'a>(&'a self, workload: &str, pair: &'a [Server]) -> Pair<'a> {
        let [one, other] = [&pair[0].title, &pair[1].title];
        let results = &self.results;
        let findings = [one, other].map(|it| results.row(workload, it));
        let why = findings.iter().flatten().find_map(Finding::why);
        let figures = match findings {
            [Some(Finding::Measured(a)), Some(Finding::Measured(b))] => {
                Some([a, b])
            }
            _ => None,
        };
        let ratio = results.ratio(workload, one, other, |run| run.cpu);
        Pair { server: one, figures, ratio, why }
    }

    /// Returns the ratio of a server to its other one.
    pub fn ratio(&self, workload: &str, server: &str) -> Option<Spread> {
        let mut pairs = self.results.servers.chunks_exact(2);
        let pair = pairs.find(|pair| pair[0].title == server)?;
        self.pair(workload, pair).ratio
    }

    /// Formats a table for each workload.
    pub fn render(&self, width: Option<usize>) -> String {
        let room = width.unwrap_or(usize::MAX);
        let mut text = String::new();
        for workload in &self.results.workloads {
            let Workload { title, name, .. } = workload;
            let title = format!("{}: {title} ({name})", self.other.title());
            text += &(screen::fill(&title, room) + "\n\n");
            text += &(self.table(workload).render(width) + "\n");
        }
        text + &screen::fill(self.other.explanation(), room) + "\n"
    }

    fn table(&self, workload: &Workload) -> Table {
        let pairs = self.of(workload);
        let has_memory = pairs.iter().any(|it| it.medians(memory).is_some());
        let [other, ratio] = self.other.headings().map(str::to_uppercase);
        let mut columns = vec![Column::left("SERVER"), Column::right("CPU")];
        columns.push(Column::right(&other));
        columns.push(Column::left(&ratio));
        if has_memory {
            columns.push(Column::right("MEM"));
            columns.push(Column::right(&other));
        }
        let rows = pairs.iter().map(|pair| {
            let mut cells = vec![pair.server.to_owned()];
            if pair.figures.is_some() {
                cells.extend(both(pair.medians(|run| Some(run.cpu))));
                cells.push(pair.ratio.map_or(NONE.to_owned(), ratio_text));
            }
            if pair.figures.is_some() && has_memory {
                cells.extend(both(pair.medians(memory)));
            }
            Row { cells, text: pair.why.clone().unwrap_or_default() }
        });
        Table { rows: rows.collect(), columns, text: String::new() }
    }

    /// Formats a section in Markdown, with all workloads in one table.
    pub fn markdown(&self) -> String {
        let [other, ratio] = self.other.headings();
        let mut text = format!("\n## {}\n\n", self.other.title());
        text += &(screen::fill(self.other.explanation(), 80) + "\n\n");
        let workloads = &self.results.workloads;
        let headings = workloads.iter().map(|workload| {
            format!(" {} | {other} | {ratio} |", workload.name)
        });
        let _ = writeln!(text, "| server |{}", headings.collect::<String>());
        let _ =
            writeln!(text, "|---|{}", "--:|--:|---|".repeat(workloads.len()));
        let rows: Vec<_> = workloads.iter().map(|it| self.of(it)).collect();
        let count = rows.first().map_or(0, Vec::len);
        for at in 0..count {
            let cells = rows.iter().map(|pairs| {
                let pair = &pairs[at];
                let [one, other] = both(pair.medians(|run| Some(run.cpu)));
                let ratio = pair.ratio.map_or(NONE.to_owned(), ratio_text);
                format!(" {one} | {other} | {ratio} |")
            });
            let cells: String = cells.collect();
            let _ = writeln!(text, "| {} |{cells}", rows[0][at].server);
        }
        text
    }
}

fn memory(run: &Figures) -> Option<f64> {
    run.memory
}

fn both(medians: Option<[f64; 2]>) -> [String; 2] {
    let [one, other] = medians.map_or([None; 2], |it| it.map(Some));
    [one, other].map(|it| it.map_or(NONE.to_owned(), figure))
}

/// Formats a ratio with its range.
pub fn ratio_text(ratio: Spread) -> String {
    let Spread { median, least, most } = ratio;
    format!("{median:.2} ({least:.2}–{most:.2})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Outcome;
    use crate::sample;

    fn pairs(rows: &[(&str, &str, &[f64])]) -> Pairs {
        let mut results = sample::of_costs(rows);
        results.workloads.retain(|it| it.name == "ping-50");
        Pairs { other: Other::Minimal, results }
    }

    #[test]
    fn neighbours_are_divided_run_by_run() {
        let pairs = pairs(&[
            ("ping-50", "a", &[2.0, 4.4, 3.3]),
            ("ping-50", "a, minimal", &[2.0, 4.0, 3.0]),
            ("ping-50", "b", &[1.0; 3]),
            ("ping-50", "b, minimal", &[2.0; 3]),
        ]);
        let text = pairs.render(None);
        let lines: Vec<_> = text.lines().collect();
        let words = |line: &str| {
            let found = lines.iter().find(|it| it.starts_with(line)).unwrap();
            found.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words("SERVER"), "CPU MINIMAL POLICIES COST");
        assert_eq!(words("a "), "3.30 3.00 1.10 (1.00–1.10)");
        assert_eq!(words("b "), "1.00 2.00 0.50 (0.50–0.50)");
        let markdown = pairs.markdown();
        let row = "| a | 3.30 | 3.00 | 1.10 (1.00–1.10) |\n";
        assert!(markdown.contains(row), "{markdown}");
        assert_eq!(pairs.ratio("ping-50", "b").unwrap().median, 0.5);
        assert_eq!(pairs.ratio("ping-50", "b, minimal"), None);
    }

    #[test]
    fn a_reason_takes_the_place_of_figures() {
        let mut pairs = pairs(&[
            ("ping-50", "a", &[2.0]),
            ("ping-50", "a, minimal", &[2.0]),
        ]);
        let why = "doesn't serve udp".to_owned();
        pairs.results.runs[1].outcome = Outcome::Cannot { why, held: None };
        assert_eq!(pairs.ratio("ping-50", "a"), None);
        let text = pairs.render(Some(80));
        assert!(text.contains("can't: doesn't serve udp"), "{text}");
    }
}
