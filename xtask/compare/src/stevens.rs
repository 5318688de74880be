//! `cargo xtask stevens`: the designs of chapter 30 of UNIX Network
//! Programming, measured as there: 5,000 connections with one request each, and
//! the server's processor time beyond that of the iterative server.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::model::Workspace;
use lab::table::{Column, Row, Table};
use lab::{number, screen};
use load::request::Request;
use serde::Deserialize;

use crate::contender::Contender;
use crate::markdown;
use crate::plan::{Order, Plan};
use crate::results::{Outcome, Results};
use crate::spread::Spread;
use crate::trial::Spans;
use crate::workload::{Load, Workload};
use crate::{INTERRUPTED, RUNS_MIN, carry_out};

/// Flags of `cargo xtask stevens`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Number of runs of each measurement.
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
    /// Write docs/stevens.md.
    #[arg(long)]
    record: bool,
}

const DOCUMENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/stevens.md");

/// The book's numbers: connections altogether and at a time, and the bytes of a
/// reply.
const CONNECTIONS: u32 = 5_000;
const AT_A_TIME: usize = 10;
const REPLY: usize = 4_000;

/// The most time for the connections of one server. The slowest takes a tenth
/// of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A design of the book.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Design {
    section: String,
    name: String,
    server: String,
    flags: String,
}

impl Design {
    /// Returns the command that starts it, which identifies its runs.
    fn title(&self) -> String {
        format!("{} {}", self.server, self.flags).trim().to_owned()
    }
}

/// Measures, prints the table, and writes the document if the flags ask for it.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let least = RUNS_MIN;
    ensure!(
        flags.runs >= least,
        "--runs {}: at least {least} are required",
        flags.runs
    );
    let workspace = Workspace::load()?;
    let designs = designs()?;
    let contenders = contenders(&workspace, &designs)?;
    let servers = contenders.len();
    let spans = Spans { warm_up: Duration::ZERO, measured: PATIENCE };
    let plan = Plan {
        contenders,
        workloads: vec![workload()],
        runs: flags.runs,
        spans,
        order: Order::Alone,
    };
    let announcement = format!(
        "{servers} servers, {} runs, {CONNECTIONS} connections each.\n",
        flags.runs
    );
    let folder = workspace.target.join("stevens");
    let mut done = carry_out(&workspace, &[&plan], &folder, &announcement)?;
    done.carried_out?;
    let results = done.results.pop().context("no results")?;
    if results.missing > 0 {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let table = Figures::of(&results, &designs)?;
    let text = table.text().render(screen::width());
    screen::print(&text)?;
    if flags.record {
        fs::write(DOCUMENT, table.document(&results)).context(DOCUMENT)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn designs() -> Result<Vec<Design>> {
    #[derive(Deserialize)]
    struct File {
        design: Vec<Design>,
    }
    let file: File =
        toml::from_str(include_str!("stevens.toml")).context("stevens.toml")?;
    Ok(file.design)
}

/// Returns the designs, and after them all variants that are none.
fn contenders(
    workspace: &Workspace,
    designs: &[Design],
) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    let mut used = Vec::new();
    for design in designs {
        let Design { server, flags, .. } = design;
        let chosen = workspace.select(std::slice::from_ref(server))?;
        let [(model, variant)] = chosen[..] else {
            bail!("stevens.toml: {server} has several variants; name one");
        };
        let contender = Contender::new(workspace, model, variant);
        used.push(contender.title.clone());
        contenders.push(contender.with_flags(&design.title(), flags));
    }
    let all = workspace.select(&[])?.into_iter();
    let all = all.map(|(model, it)| Contender::new(workspace, model, it));
    contenders.extend(all.filter(|it| !used.contains(&it.title)));
    Ok(contenders)
}

fn workload() -> Workload {
    Workload {
        name: "stevens".to_owned(),
        title: String::new(),
        load: Load::Short,
        request: Request::Echo(REPLY),
        connections: AT_A_TIME,
        pipeline: 1,
        busy: None,
        idle: 0,
        rate: None,
        heavy: None,
        total: Some(CONNECTIONS),
        quick: false,
    }
}

/// The figures of one server, in milliseconds for all connections.
#[derive(Debug)]
struct Line {
    design: Option<Design>,
    server: String,
    cpu: Spread,
    /// Processor time beyond the baseline's, by run.
    control: Spread,
}

/// The figures of all servers.
#[derive(Debug)]
struct Figures(Vec<Line>);

impl Figures {
    fn of(results: &Results, designs: &[Design]) -> Result<Self> {
        let used = |server: &str| -> Result<Vec<f64>> {
            let runs = results.runs.iter().filter(|run| run.server == server);
            runs.map(|run| match &run.outcome {
                Outcome::Measured(figures) => {
                    let connections = u64::from(CONNECTIONS);
                    ensure!(figures.requests == connections, "too slow");
                    Ok(figures.cpu * f64::from(CONNECTIONS) / 1e3)
                }
                Outcome::Cannot { why, .. } | Outcome::Failed(why) => {
                    bail!("{why}")
                }
            })
            .collect::<Result<_>>()
            .with_context(|| server.to_owned())
        };
        let baseline = designs.first().context("no design")?;
        let baseline = used(&baseline.title())?;
        let lines = results.servers.iter().map(|server| {
            let server = server.title.clone();
            let cpu = used(&server)?;
            let control = cpu.iter().zip(&baseline).map(|(cpu, it)| cpu - it);
            let control = Spread::of(control.collect()).context("no run")?;
            let cpu = Spread::of(cpu).context("no run")?;
            let design = designs.iter().find(|it| it.title() == server);
            Ok(Line { design: design.cloned(), server, cpu, control })
        });
        Ok(Self(lines.collect::<Result<_>>()?))
    }

    /// Returns the table for a terminal.
    fn text(&self) -> Table {
        let rows = self.0.iter().map(|line| {
            let [section, name] = line.labels();
            let cells = [&[section], &line.numbers()[..]].concat();
            let text = match name.is_empty() {
                true => line.server.clone(),
                false => format!("{name} ({})", line.server),
            };
            Row { cells, text }
        });
        let right = |heading: &str| Column::right(heading);
        Table {
            columns: vec![
                Column::left("UNP"),
                right("CPU MS"),
                right("CONTROL MS"),
                right("RANGE").rank(1),
            ],
            text: "design (server)".to_owned(),
            rows: rows.collect(),
        }
    }

    /// Returns docs/stevens.md.
    fn document(&self, results: &Results) -> String {
        let rows = |of_the_book: bool| -> String {
            let lines = self.0.iter();
            let lines = lines.filter(|it| it.design.is_some() == of_the_book);
            lines.map(|line| line.markdown() + "\n").collect()
        };
        include_str!("stevens.txt")
            .replace("{facts}\n", &markdown::facts(results))
            .replace("{designs}\n", &rows(true))
            .replace("{others}\n", &rows(false))
    }
}

impl Line {
    /// Returns the section and the name.
    fn labels(&self) -> [String; 2] {
        let design = self.design.as_ref();
        let labels = |it: &Design| [it.section.clone(), it.name.clone()];
        design.map(labels).unwrap_or_default()
    }

    /// Returns the processor time, the process control time and its range.
    fn numbers(&self) -> [String; 3] {
        let Spread { median, least, most } = self.control;
        let [cpu, median, least, most] =
            [self.cpu.median, median, least, most].map(number::count);
        [cpu, median, format!("{least} to {most}")]
    }

    fn markdown(&self) -> String {
        let numbers = self.numbers().join(" | ");
        let server = &self.server;
        match &self.design {
            Some(Design { section, name, .. }) => {
                format!("| {section} | {name} | `{server}` | {numbers} |")
            }
            None => format!("| `{server}` | {numbers} |"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{self, Group, Run, Server};

    #[test]
    fn each_design_exists_and_each_variant_is_measured_once() {
        let workspace = Workspace::load().unwrap();
        let designs = designs().unwrap();
        assert_eq!(designs.len(), 9);
        let contenders = contenders(&workspace, &designs).unwrap();
        let mut titles: Vec<_> =
            contenders.iter().map(|it| &it.title).collect();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), contenders.len());
    }

    #[test]
    fn control_is_the_difference_within_a_run() {
        let design = |server: &str| Design {
            section: "30.4".to_owned(),
            name: "iterative".to_owned(),
            server: server.to_owned(),
            flags: String::new(),
        };
        let (mut results, mut number) = (Results::default(), 0);
        for (server, costs) in
            [("a", [10.0, 20.0, 30.0]), ("b", [14.0, 22.0, 36.0])]
        {
            results.servers.push(Server {
                title: server.to_owned(),
                summary: String::new(),
                group: Group::OneThread,
            });
            for cpu in costs {
                number += 1;
                let requests = CONNECTIONS.into();
                let figures =
                    results::Figures { cpu, requests, ..Default::default() };
                results.runs.push(Run {
                    workload: "stevens".to_owned(),
                    server: server.to_owned(),
                    number,
                    outcome: Outcome::Measured(figures),
                });
            }
        }
        let figures = Figures::of(&results, &[design("a")]).unwrap();
        let line = figures.0[1].markdown();
        // 5,000 connections at 22 µs, and 4 µs, 2 µs and 6 µs more.
        assert_eq!(line, "| `b` | 110 | 20 | 10 to 30 |");
        assert!(figures.0[0].design.is_some());
        let text = figures.document(&results);
        assert!(text.contains("| 30.4 | iterative | `a` | 100 | 0 |"));
        assert!(!text.contains('{'), "{text}");
        results.runs[4].outcome = Outcome::Failed("a wrong reply".to_owned());
        let error = Figures::of(&results, &[design("a")]).unwrap_err();
        assert_eq!(format!("{error:#}"), "b: a wrong reply");
    }
}
