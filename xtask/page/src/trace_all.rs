//! `cargo xtask figure`: the models side by side.

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use compare::INTERRUPTED;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lab::model::{Clients, Family, Model, Transport, Variant, Workspace};
use lab::promises::WaitsIn;
use lab::{Unsupported, build, process, screen};
use load::interrupt::{self, Interrupted};
use trace::figure::Column;
use trace::render;
use trace::scene::{self, Recording};
use trace::timeline::{Detail, Timeline};

use crate::survey::{CONNECTIONS, Cost, Survey};
use crate::{calls, count, figure, traced};

/// How long calls are counted, where nobody is waiting for something else.
const SPAN: Duration = Duration::from_millis(400);

/// Flags of `cargo xtask figure`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Draw the figure into a file as well.
    #[arg(long, value_name = "FILE")]
    svg: Option<Utf8PathBuf>,
}

/// Ends with 77 where the machine does not let us trace, and with 130 after
/// an interruption.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    if let Some(file) = &flags.svg {
        // Before a build that takes its time.
        File::create(file).with_context(|| format!("cannot write {file}"))?;
    }
    let code = match show(&workspace, flags.svg.as_deref()) {
        Err(error) if error.is::<Unsupported>() => (error, Unsupported::CODE),
        Err(error) if error.is::<Interrupted>() => (error, INTERRUPTED),
        result => return result.map(|()| ExitCode::SUCCESS),
    };
    let (error, code) = code;
    eprintln!("error: {error:#}");
    Ok(ExitCode::from(code))
}

/// Builds and traces all models, prints the table of their system calls, and
/// writes the figure into a file where one is named.
fn show(workspace: &Workspace, file: Option<&Utf8Path>) -> Result<()> {
    build::release(workspace, &workspace.models)?;
    process::raise_descriptor_limit()?;
    interrupt::prepare()?;
    let extent = Extent { span: SPAN, timelines: true };
    let survey =
        survey(workspace, &workspace.variants().collect::<Vec<_>>(), extent)?;
    let width = screen::width();
    screen::print(&calls::render(&survey, width))?;
    let folder = workspace.target.join("trace");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {folder}"))?;
    let page = folder.join("index.html");
    write(&page, &traced::render(&survey))?;
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

/// Plays the scene and counts calls, model by model. Fails with [`Unsupported`]
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
            Err(error) if error.is::<Unsupported>() => {
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
            let scene = scene::play(program, &variant.args, Transport::Tcp)?;
            if is_shown {
                let name = match model.family {
                    Family::Asynchronous => &title,
                    _ => &model.name,
                };
                self.columns.push(column(name, &scene)?);
            }
            if is_shown && waits_otherwise_for_datagrams(model, variant) {
                let scene =
                    scene::play(program, &variant.args, Transport::Udp)?;
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
                let counted = count::measure(
                    program,
                    &variant.args,
                    connections,
                    extent.span,
                )?;
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
    match model.family {
        Family::Scaling => false,
        Family::Asynchronous => true,
        _ => first,
    }
}

/// Whether datagrams are another model: a signal handler copies them.
fn waits_otherwise_for_datagrams(model: &Model, variant: &Variant) -> bool {
    variant.promises.waits_in == WaitsIn::Signals
        && model.transports_of(variant).contains(&Transport::Udp)
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
