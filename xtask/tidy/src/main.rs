//! `cargo xtask tidy`: checks the repository's rules.
//!
//! Each rule is a pure function from text to problems, tested with samples that
//! keep it and samples that break it.

mod chapter;
mod circles;
mod code;
mod items;
mod links;
mod manifest;
mod minimal;
mod readme;
mod same;
mod versions;

use std::process::ExitCode;
use std::{fmt, fs};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use lab::model::{Model, Workspace};
use lab::{program, screen};

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the repository's rules: manifests, documents, copies, code.
    Tidy(Flags),
}

fn main() -> ExitCode {
    program::main(|command| match command {
        Command::Tidy(flags) => run(&flags),
    })
}

/// Flags of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Regenerate the table of models in README.md before checking.
    #[arg(long)]
    fix: bool,
}

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Relative to the workspace's root.
    pub file: String,
    /// From 1.
    pub line: usize,
    pub wrong: String,
    pub remedy: String,
}

impl Problem {
    pub fn new(
        source: &Source,
        line: usize,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            file: source.path.clone(),
            line,
            wrong: wrong.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, wrong, remedy } = self;
        write!(f, "{file}:{line}: {wrong}; {remedy}")
    }
}

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the workspace's root.
    pub path: String,
    pub text: String,
}

impl Source {
    #[cfg(test)]
    pub fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn extension(&self) -> &str {
        Utf8Path::new(&self.path).extension().unwrap_or("")
    }

    /// Returns the number of the first line that contains the text, or 1.
    fn line_of(&self, text: &str) -> usize {
        let line = self.text.lines().position(|line| line.contains(text));
        line.map_or(1, |index| index + 1)
    }

    /// Returns whether it is in this folder, given relative to the root.
    fn is_in(&self, folder: &Utf8Path) -> bool {
        Utf8Path::new(&self.path).starts_with(folder)
    }
}

/// Prints all problems, and fails if there are any.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if flags.fix {
        fix(&workspace)?;
    }
    let sources = sources(&workspace)?;
    let mut problems = Vec::new();
    problems.extend(members(&workspace, &sources)?);
    problems.extend(same::check(&copies(&workspace, &sources)));
    problems.extend(root(&workspace, &sources)?);
    problems.sort();
    problems.dedup();
    let mut text: String =
        problems.iter().map(|problem| format!("{problem}\n")).collect();
    text += &format!(
        "tidy: {} problems in {} files, {} models\n",
        problems.len(),
        sources.len(),
        workspace.models.len()
    );
    screen::print(&text)?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fix(workspace: &Workspace) -> Result<()> {
    let path = workspace.root.join("README.md");
    let before = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}"))?;
    let after = readme::with_table(&before, &readme::table(&workspace.models))?;
    if after != before {
        fs::write(&path, after)
            .with_context(|| format!("cannot write {path}"))?;
        screen::print("README.md: wrote the table of models\n")?;
    }
    Ok(())
}

/// Documents that state facts about kernels.
const FACTUAL: [&str; 6] = [
    "ARCHITECTURE.md",
    "METHODOLOGY.md",
    "README.md",
    "docs/GLOSSARY.md",
    "docs/MODELS.md",
    "docs/TUTORIAL.md",
];

/// Applies the rules for documents and the root manifest.
fn root(workspace: &Workspace, sources: &[Source]) -> Result<Vec<Problem>> {
    let lookup = |path: &Utf8Path| match workspace.root.join(path) {
        path if path.is_dir() => Some(String::new()),
        path => fs::read_to_string(path).ok(),
    };
    let mut problems = Vec::new();
    for source in sources {
        problems.extend(links::check(source, &lookup));
        if FACTUAL.contains(&source.path.as_str()) {
            problems.extend(versions::check(source));
        }
        match source.path.as_str() {
            "README.md" => {
                let table = readme::table(&workspace.models);
                problems.extend(readme::check(source, &table));
            }
            "Cargo.toml" => {
                let reasons = lookup(Utf8Path::new("ARCHITECTURE.md"));
                problems.extend(manifest::check_dependencies(
                    source,
                    sources,
                    &reasons.unwrap_or_default(),
                )?);
            }
            _ => {}
        }
    }
    Ok(problems)
}

/// Applies the rules for manifests and Rust code, member by member.
fn members(workspace: &Workspace, sources: &[Source]) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for folder in &workspace.members {
        let model = workspace.models.iter().find(|m| m.folder == *folder);
        let folder = relative(workspace, folder);
        problems.extend(circles::check(folder, sources));
        let manifest = folder.join("Cargo.toml");
        for source in sources.iter().filter(|source| source.is_in(folder)) {
            if source.path == manifest {
                problems.extend(manifest::check(source, model.is_some())?);
                problems
                    .extend(model.and_then(|it| minimal::is_there(source, it)));
            }
            if source.extension() == "rs" {
                problems.extend(code(source, folder, model)?);
            }
            if model.is_some() && source.is_in(&folder.join("examples")) {
                let src = folder.join("src");
                let files: Vec<_> =
                    sources.iter().filter(|file| file.is_in(&src)).collect();
                problems.extend(minimal::names(source, &files));
            }
        }
    }
    Ok(problems)
}

fn code(
    source: &Source,
    folder: &Utf8Path,
    model: Option<&Model>,
) -> Result<Vec<Problem>> {
    let syntax = syn::parse_file(&source.text)
        .with_context(|| format!("cannot parse {}", source.path))?;
    let is_chapter =
        model.is_some() && source.path == folder.join("src/main.rs");
    let is_minimal = model.is_some() && source.is_in(&folder.join("examples"));
    let mut problems = code::width(source);
    if is_minimal {
        problems.extend(minimal::check(source, &syntax));
    }
    problems.extend(code::length(source, &syntax, is_chapter));
    if model.is_some() {
        problems.extend(code::no_tests(source));
    }
    if is_chapter {
        problems.extend(chapter::check(source));
    }
    if is_chapter || is_minimal {
        problems.extend(code::item_order(source, &syntax));
    }
    if model.is_some() || folder == "common" {
        problems.extend(versions::check(source));
    }
    Ok(problems)
}

/// Collects the files in which each model's copies are searched for.
fn copies<'a>(
    workspace: &'a Workspace,
    sources: &'a [Source],
) -> Vec<same::Crate<'a>> {
    let of_model = |model: &'a Model| {
        let folder = relative(workspace, &model.folder);
        let within = |path: &str| {
            sources.iter().filter(|s| s.is_in(&folder.join(path))).collect()
        };
        let manifest: Vec<_> = within("Cargo.toml");
        same::Crate {
            names: &model.same,
            manifest: manifest[0],
            sources: [within("src"), within("examples")].concat(),
        }
    };
    workspace.models.iter().map(of_model).collect()
}

fn relative<'a>(workspace: &Workspace, folder: &'a Utf8Path) -> &'a Utf8Path {
    folder.strip_prefix(&workspace.root).unwrap_or(folder)
}

/// Reads all text files that people edit, sorted by path.
fn sources(workspace: &Workspace) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    collect(workspace, &workspace.root, &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn collect(
    workspace: &Workspace,
    folder: &Utf8Path,
    sources: &mut Vec<Source>,
) -> Result<()> {
    let entries = folder
        .read_dir_utf8()
        .with_context(|| format!("cannot list {folder}"))?;
    for entry in entries {
        let path: Utf8PathBuf = entry?.into_path();
        let built =
            path == workspace.target || path.file_name() == Some("target");
        if path.is_dir() {
            if !built && path.file_name() != Some(".git") {
                collect(workspace, &path, sources)?;
            }
        } else if is_edited(&path) {
            sources.push(Source {
                text: fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {path}"))?,
                path: relative(workspace, &path).to_string(),
            });
        }
    }
    Ok(())
}

fn is_edited(path: &Utf8Path) -> bool {
    path.extension().is_some_and(|e| ["md", "rs", "toml"].contains(&e))
}
