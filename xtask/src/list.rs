//! `cargo xtask list`: the models, and what each can do here.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use console::style;
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::model::{self, Clients, Model, Transport, Variant, Workspace};
use crate::server::{self, Ready};
use crate::{build, screen};

/// How long a model may take to be ready, and then to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Exit code of a model that this kernel can't run.
const CANNOT_RUN_HERE: i32 = 77;

/// Flags of `cargo xtask list`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Build the models first; otherwise those built before are started.
    #[arg(long)]
    build: bool,
    /// Print JSON: an array with one object for each variant.
    #[arg(long)]
    json: bool,
}

/// One line of the list: a variant of a model.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    family: &'a str,
    clients: Clients,
    transports: &'a [Transport],
    /// Why the variant serves fewer transports than the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    summary: &'a str,
    here: Here,
}

/// What came of starting a variant.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Here {
    NotBuilt,
    Runs,
    /// The model says that this kernel can't run it, and why.
    CannotRun(String),
    /// Anything else: a defect.
    Fails(String),
}

pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if flags.build {
        build::release(&workspace, &workspace.models)?;
    }
    let entries = entries(&workspace, |model, variant| {
        let binary = build::binary(&workspace, model);
        try_to_run(&binary, variant, model.transports_of(variant))
    });
    if flags.json {
        screen::print(&(serde_json::to_string_pretty(&entries)? + "\n"))?;
    } else {
        screen::print(&render(&entries, screen::width()))?;
    }
    let fails = entries.iter().any(|e| matches!(e.here, Here::Fails(_)));
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What can be named on a command line, a line each, without starting
/// anything.
pub fn catalogue(workspace: &Workspace) -> String {
    let titles = workspace.models.iter().flat_map(|model| {
        let title = |variant| (model.title(variant), &model.summary);
        model.variants.iter().map(title)
    });
    let titles: Vec<_> = titles.collect();
    let width = titles.iter().map(|(title, _)| title.len()).max();
    let width = width.unwrap_or(0);
    let mut text = "The models:\n".to_owned();
    for (title, summary) in titles {
        let _ = writeln!(text, "  {title:width$}  {summary}");
    }
    text
}

fn entries(
    workspace: &Workspace,
    here: impl Fn(&Model, &Variant) -> Here,
) -> Vec<Entry<'_>> {
    let of_model = |model| entries_of(model, &here);
    workspace.models.iter().flat_map(of_model).collect()
}

fn entries_of<'a>(
    model: &'a Model,
    here: &impl Fn(&Model, &Variant) -> Here,
) -> Vec<Entry<'a>> {
    let entry = |variant: &'a Variant| Entry {
        model: &model.name,
        variant: &variant.name,
        family: &model.family,
        clients: model.clients,
        transports: model.transports_of(variant),
        why: variant.why.as_deref(),
        summary: &model.summary,
        here: here(model, variant),
    };
    model.variants.iter().map(entry).collect()
}

/// Starts the variant on a port of the kernel's choice, waits for its ready
/// line and stops it.
fn try_to_run(
    binary: &Path,
    variant: &Variant,
    transports: &[Transport],
) -> Here {
    if !binary.exists() {
        return Here::NotBuilt;
    }
    let flag = match transports.first() {
        Some(Transport::Udp) => "--udp",
        _ => "--tcp",
    };
    let mut command = Command::new(binary);
    command
        .args(&variant.args)
        .args([flag, "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match server::tie(&mut command).spawn() {
        Ok(mut child) => {
            let here = outcome(&mut child);
            let _ = child.kill();
            let _ = child.wait();
            here.unwrap_or_else(|error| Here::Fails(format!("{error:#}")))
        }
        Err(error) => Here::Fails(format!("cannot start it: {error}")),
    }
}

/// Reads what the model says in a thread of its own, so that a model that
/// says nothing can't keep us.
fn outcome(child: &mut Child) -> Result<Here> {
    let stdout = child.stdout.take().context("no output")?;
    let stderr = child.stderr.take().context("no error output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let line = server::first_line(stdout).map(|(line, _)| line);
        let _ = sender.send(line);
    });
    let complaint = thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.filter(|line| !line.trim().is_empty()).last()
    });
    let Ok(line) = receiver.recv_timeout(PATIENCE) else {
        return Ok(Here::Fails(format!(
            "no ready line within {} s",
            PATIENCE.as_secs()
        )));
    };
    let ready = line?.parse::<Ready>();
    if ready.is_ok() {
        server::send(child, Signal::SIGTERM);
    }
    let status = wait(child)?;
    if let Ok(ready) = ready {
        anyhow::ensure!(ready != Ready::default(), "ready, but on no address");
        anyhow::ensure!(status.success(), "SIGTERM ended it with {status}");
        return Ok(Here::Runs);
    }
    let complaint = complaint.join().ok().flatten();
    let complaint = complaint.unwrap_or_else(|| "no reason given".to_owned());
    Ok(match status.code() {
        Some(CANNOT_RUN_HERE) => Here::CannotRun(complaint),
        _ => Here::Fails(format!("{status}: {complaint}")),
    })
}

/// Waits for the end of a child that was told to end, for as long as patience
/// lasts.
fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    const STEP: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(STEP);
        waited += STEP;
    }
    anyhow::bail!("still running {} s after SIGTERM", PATIENCE.as_secs())
}

const HEADER: [&str; 7] =
    ["MODEL", "VARIANT", "FAMILY", "CLIENTS", "TRANSPORTS", "HERE", "SUMMARY"];

/// The column that is coloured.
const HERE: usize = 5;

/// Narrower than this, the last column of a table can't be read.
const SUMMARY_MIN: usize = 30;

/// A table where it fits, otherwise a paragraph for each model; then what
/// needs a sentence. No width is a pipe's: there each variant is one complete
/// line.
fn render(entries: &[Entry<'_>], width: Option<usize>) -> String {
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
            for column in [0, 2, 3, 6] {
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
        entry.family.to_owned(),
        entry.clients.to_string(),
        model::names(entry.transports),
        entry.here.word().to_owned(),
        entry.summary.to_owned(),
    ]
}

impl Here {
    fn word(&self) -> &'static str {
        match self {
            Self::NotBuilt => "not built",
            Self::Runs => "yes",
            Self::CannotRun(_) => "no",
            Self::Fails(_) => "fails",
        }
    }

    fn phrase(&self) -> &'static str {
        match self {
            Self::NotBuilt => "not built",
            Self::Runs => "runs here",
            Self::CannotRun(_) => "can't run here",
            Self::Fails(_) => "fails",
        }
    }

    /// Colours a text that contains the word; only in a terminal.
    fn paint(&self, text: &str) -> String {
        match self {
            Self::NotBuilt => style(text).dim().to_string(),
            Self::Runs => style(text).green().to_string(),
            Self::CannotRun(_) => style(text).yellow().to_string(),
            Self::Fails(_) => style(text).red().to_string(),
        }
    }
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
    for group in entries.chunk_by(|a, b| a.model == b.model) {
        let Entry { model, family, clients, summary, .. } = group[0];
        let _ = writeln!(
            text,
            "{} ({family}, {})",
            style(model).bold(),
            match clients {
                Clients::One => "one client at a time",
                Clients::Many => "many clients",
            }
        );
        for line in screen::wrap(summary, width.saturating_sub(4)) {
            let _ = writeln!(text, "    {line}");
        }
        let names = group.iter().map(|entry| entry.variant.len());
        let column = names.max().unwrap_or(0);
        for entry in group {
            let here = entry.here.paint(entry.here.phrase());
            let names = model::names(entry.transports);
            let gap = if column == 0 { "" } else { "  " };
            let _ = writeln!(
                text,
                "    {:column$}{gap}{names}: {here}",
                entry.variant
            );
        }
    }
    text
}

/// What a cell has no room for: why something does not run, or is left out.
fn notes(entries: &[Entry<'_>], width: usize) -> String {
    let mut text = String::new();
    for entry in entries {
        let title = match entry.variant {
            "" => entry.model.to_owned(),
            variant => format!("{}/{variant}", entry.model),
        };
        let note = match &entry.here {
            Here::CannotRun(reason) => format!("{title} can't run: {reason}"),
            Here::Fails(reason) => format!("{title} fails: {reason}"),
            Here::NotBuilt | Here::Runs => String::new(),
        };
        let narrowed = entry.why.map(|why| {
            let names = model::names(entry.transports);
            format!("{title} serves {names} only: {why}")
        });
        for note in [note, narrowed.unwrap_or_default()] {
            if !note.is_empty() {
                let _ = writeln!(text, "\n{}", screen::fill(&note, width));
            }
        }
    }
    if entries.iter().any(|entry| entry.here == Here::NotBuilt) {
        text += "\n`cargo xtask list --build` builds them first.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(model: &'a str, variant: &'a str, here: Here) -> Entry<'a> {
        Entry {
            model,
            variant,
            family: "multiplexing",
            clients: Clients::Many,
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
    fn what_a_process_does_is_told_apart() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = server::tie(&mut command).spawn().unwrap();
            outcome(&mut child).unwrap()
        };
        let ready = "echo ready tcp=127.0.0.1:1; ";
        let stops = format!("trap 'exit 0' TERM; {ready} while :; do :; done");
        assert_eq!(shell(&stops), Here::Runs);
        assert_eq!(
            shell("echo no ring >&2; exit 77"),
            Here::CannotRun("no ring".to_owned())
        );
        let fails = shell("echo boom >&2; exit 1");
        assert_eq!(fails, Here::Fails("exit status: 1: boom".to_owned()));
    }
}
