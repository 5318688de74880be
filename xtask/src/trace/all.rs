//! `cargo xtask trace --all`: the models side by side.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cargo_metadata::camino::Utf8Path;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::count;
use super::event::Refusal;
use super::figure::Column;
use super::scene::Recording;
use super::survey::{CONNECTIONS, Cost, Survey};
use super::timeline::{Detail, Timeline};
use super::{figure, page, render, scene, table};
use crate::compare::interrupt;
use crate::model::{Clients, Model, Transport, Variant, Workspace};
use crate::{build, process, screen};

/// How long calls are counted, where nobody is waiting for something else.
const SPAN: Duration = Duration::from_millis(400);

/// Builds and traces all models, prints the table of their system calls, and
/// writes the figure into a file where one is named.
pub fn run(workspace: &Workspace, file: Option<&Utf8Path>) -> Result<()> {
    build::release(workspace, &workspace.models)?;
    process::raise_descriptor_limit()?;
    interrupt::prepare()?;
    let extent = Extent { span: SPAN, timelines: true };
    let survey = survey(workspace, &variants(workspace), extent)?;
    let width = screen::width();
    screen::print(&table::render(&survey, width))?;
    let folder = workspace.target.join("trace");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {folder}"))?;
    let page = folder.join("index.html");
    write(&page, &page::render(&survey))?;
    if let Some(file) = file {
        write(file, &figure::svg::alone(&survey.columns))?;
    }
    screen::print(&format!(
        "\nThe page, with the figure and every timeline: {page}\n"
    ))
}

fn write(file: &Utf8Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {file}"))
}

/// Every model and variant.
fn variants(workspace: &Workspace) -> Vec<(&Model, &Variant)> {
    let models = workspace.models.iter();
    let all = models.flat_map(|model| {
        model.variants.iter().map(move |variant| (model, variant))
    });
    all.collect()
}

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How long calls are counted, for each number of connections.
    pub span: Duration,
    /// A timeline of everybody, not only of those in the figure.
    pub timelines: bool,
}

impl Extent {
    /// As little as tells something: for those who wait for something else.
    pub fn brief() -> Self {
        Self { span: Duration::from_millis(100), timelines: false }
    }
}

/// Plays the scene and counts calls, model by model. Fails with [`Refusal`]
/// where none of them can be traced here.
pub fn survey(
    workspace: &Workspace,
    models: &[(&Model, &Variant)],
    extent: Extent,
) -> Result<Survey> {
    let bar = progress(models.len());
    let mut survey = Survey::default();
    let mut refused = None;
    for (model, variant) in models {
        let title = model.title(variant);
        if bar.is_hidden() {
            eprintln!("tracing {title}");
        }
        bar.set_message(format!("tracing {title}"));
        interrupt::check()?;
        let program = build::binary(workspace, model);
        match survey.look_at(&program, model, variant, extent) {
            Err(error) if error.is::<Refusal>() => {
                survey.missing.push((title, error.to_string()));
                refused = Some(error);
            }
            result => result.context(title)?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    match refused {
        Some(error) if survey.costs.is_empty() => Err(error),
        _ => Ok(survey),
    }
}

impl Survey {
    fn look_at(
        &mut self,
        program: &Path,
        model: &Model,
        variant: &Variant,
        extent: Extent,
    ) -> Result<()> {
        let title = model.title(variant);
        let is_shown = is_in_figure(model, variant);
        if is_shown || extent.timelines {
            let scene = scene::play(program, variant, Transport::Tcp)?;
            if is_shown {
                let name = match model.family.as_str() {
                    "asynchronous" => &title,
                    _ => &model.name,
                };
                self.columns.push(column(name, &scene)?);
            }
            if is_shown && waits_otherwise_for_datagrams(model) {
                let scene = scene::play(program, variant, Transport::Udp)?;
                let name = format!("{}, UDP", model.name);
                self.columns.push(column(&name, &scene)?);
            }
            if extent.timelines {
                let timeline = Timeline::new(&scene, None, Detail::Scene);
                let text = render::render(&timeline, None);
                let text = console::strip_ansi_codes(&text).into_owned();
                self.timelines.push((title.clone(), text));
            }
        }
        let serves = |connections: usize| {
            connections == 1 || model.clients == Clients::Many
        };
        let mut tallies = [None, None];
        for (tally, connections) in tallies.iter_mut().zip(CONNECTIONS) {
            if serves(connections) {
                let counted =
                    count::measure(program, variant, connections, extent.span)?;
                *tally = Some(counted);
            }
        }
        self.costs.push(Cost { title, tallies });
        Ok(())
    }
}

/// The five models of I/O. Variants of one model wait alike, but for the
/// asynchronous ones.
fn is_in_figure(model: &Model, variant: &Variant) -> bool {
    let first = model.variants[0].name == variant.name;
    match model.family.as_str() {
        "scaling" => false,
        "asynchronous" => true,
        _ => first,
    }
}

/// Whether datagrams are another model: a signal handler copies them.
fn waits_otherwise_for_datagrams(model: &Model) -> bool {
    model.family == "signal-driven"
        && model.transports.contains(&Transport::Udp)
}

fn column(title: &str, scene: &Recording) -> Result<Column> {
    Column::new(title, scene).context("the trace shows no request")
}

fn progress(steps: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    let style = ProgressStyle::with_template("{pos}/{len}  {wide_msg}");
    bar.set_style(style.unwrap_or(ProgressStyle::default_bar()));
    bar
}
