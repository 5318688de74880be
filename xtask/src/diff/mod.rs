//! `cargo xtask diff`: two models side by side, with equal parts folded.

mod rows;
mod side_by_side;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use console::style;
use lab::model::{Model, Workspace};
use lab::screen;

use rows::{Count, Text};

/// Output width without a terminal: two lines of code with their numbers, and
/// the sign between them.
const COLUMNS: usize = 2 * (5 + 80) + 3;

/// Flags of `cargo xtask diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "CLICOLOR_FORCE=1 keeps the colours for `| less -R`.")]
pub struct Flags {
    /// Model on the left.
    left: String,
    /// Model on the right.
    right: String,
    /// Compare only this file of both models, for example main.rs.
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    /// Compare the minimal programs, which contain nothing but the model. Name
    /// a variant after a slash: `multiplexing-epoll/edge`.
    #[arg(long, conflicts_with = "file")]
    minimal: bool,
    /// Compare the chapter openings (the `//!` docs) as well.
    #[arg(long)]
    docs: bool,
    /// Number of equal lines to show around each difference.
    #[arg(long, value_name = "LINES", default_value_t = 3)]
    context: usize,
}

pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let titles = [&flags.left, &flags.right];
    let pairs = if flags.minimal {
        let [left, right] = titles.map(|title| minimal(&workspace, title));
        vec![[left?, right?]]
    } else {
        let [left, right] = titles.map(|title| workspace.model(title));
        sources(flags, [left?, right?])?
    };
    screen::print(&compare(flags, &workspace.root, &pairs)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the path of a variant's minimal program.
fn minimal(workspace: &Workspace, title: &str) -> Result<Utf8PathBuf> {
    let (model, variant) = workspace.variant(title)?;
    let name = model.minimal(variant);
    let name =
        name.with_context(|| format!("{title} has no minimal program"))?;
    Ok(model.example(&name))
}

/// Lists the source files of both models in pairs, or only the one that
/// `--file` names.
fn sources(
    flags: &Flags,
    models: [&Model; 2],
) -> Result<Vec<[Utf8PathBuf; 2]>> {
    let names = match &flags.file {
        Some(name) => vec![name.clone()],
        None => file_names(models)?,
    };
    let paths =
        |name: &String| models.map(|model| model.folder.join("src").join(name));
    Ok(names.iter().map(paths).collect())
}

fn compare(
    flags: &Flags,
    root: &Utf8Path,
    pairs: &[[Utf8PathBuf; 2]],
) -> Result<String> {
    let mut text = String::new();
    let mut total = Count::default();
    for pair in pairs {
        let [left, right] = pair;
        let texts = [read(flags, left)?, read(flags, right)?];
        let titles = pair
            .each_ref()
            .map(|path| path.strip_prefix(root).unwrap_or(path).to_string());
        let [Some(left), Some(right)] = &texts else {
            text += &alone(&titles, &texts)?;
            continue;
        };
        let rows = rows::align(left, right);
        total.add(&rows);
        let pieces = rows::fold(&rows, flags.context);
        let width = screen::width_behind_a_pipe().unwrap_or(COLUMNS);
        text += &side_by_side::render(&titles, &pieces, width);
        text.push('\n');
    }
    let both = format!("{} | {}", flags.left, flags.right);
    text += &format!("{}: {total}\n", style(both).bold());
    Ok(text)
}

/// Formats the line for a file that only one of the models has.
fn alone(titles: &[String; 2], texts: &[Option<Text>; 2]) -> Result<String> {
    let mut both = titles.iter().zip(texts);
    let (title, text) = both
        .find_map(|(title, text)| Some((title, text.as_ref()?)))
        .with_context(|| format!("neither model has {}", titles[0]))?;
    let lines = text.body.lines().count();
    let title = style(title).bold();
    Ok(format!("{title}: {lines} lines, only in this model\n\n"))
}

/// Lists the paths of both models' source files below src, main.rs first.
fn file_names(models: [&Model; 2]) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for model in models {
        let src = model.folder.join("src");
        let mut folders = vec![src.clone()];
        while let Some(folder) = folders.pop() {
            let entries = folder
                .read_dir_utf8()
                .with_context(|| format!("cannot list {folder}"))?;
            for entry in entries {
                let path = entry?.into_path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension() == Some("rs") {
                    let name = path.strip_prefix(&src)?.to_string();
                    names.insert((name != "main.rs", name));
                }
            }
        }
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// Reads the file, without its opening unless `--docs` is given. Returns None
/// if the model doesn't have it.
fn read(flags: &Flags, path: &Utf8Path) -> Result<Option<Text>> {
    let body = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        body => body.with_context(|| format!("cannot read {path}"))?,
    };
    let whole = Text { first: 1, body };
    Ok(Some(if flags.docs { whole } else { whole.without_opening() }))
}
