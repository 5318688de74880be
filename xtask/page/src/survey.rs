//! Traces all models: how each waits, and which system calls it makes.

use std::path::Path;

use anyhow::{Context, Result};
use console::strip_ansi_codes;
use lab::model::{Clients, Family, Model, Transport, Variant, Workspace};
use lab::promises::WaitsIn;
use lab::{Unsupported, build, screen};
use load::interrupt;
use trace::figure::Column;
use trace::render;
use trace::scene::{self, Recording};
use trace::tally::Tally;
use trace::timeline::{Detail, Timeline};

use crate::count;

/// The numbers of connections with which calls are counted.
pub const CONNECTIONS: [usize; 2] = [1, 50];

/// The results of tracing all models.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub columns: Vec<Column>,
    pub costs: Vec<Cost>,
    /// Titles and timelines, as in a terminal.
    pub timelines: Vec<(String, String)>,
    /// Models that can't be traced here, with the reason.
    pub missing: Vec<(String, String)>,
}

/// The system calls per request of one model.
#[derive(Clone, Debug)]
pub struct Cost {
    pub title: String,
    /// One for each of `CONNECTIONS`; None if it doesn't serve that many.
    pub tallies: [Option<Tally>; 2],
}

/// Traces one request and counts calls, model by model. Fails with
/// [`Unsupported`] if no model can be traced here.
pub fn survey(
    workspace: &Workspace,
    models: &[(&Model, &Variant)],
) -> Result<Survey> {
    let bar = screen::progress(models.len());
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
        match survey.look_at(&program, model, variant) {
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
    ) -> Result<()> {
        let title = model.title(variant);
        let scene = scene::play(program, &variant.args, Transport::Tcp)?;
        let timeline = Timeline::new(&scene, None, Detail::Scene);
        let text = render::render(&timeline, None);
        let text = strip_ansi_codes(&text).into_owned();
        self.timelines.push((title.clone(), text));
        if is_in_figure(model, variant) {
            let name = match model.family {
                Family::Asynchronous => &title,
                _ => &model.name,
            };
            self.columns.push(column(name, &scene)?);
            if waits_otherwise_for_datagrams(model, variant) {
                let scene =
                    scene::play(program, &variant.args, Transport::Udp)?;
                let name = format!("{}, UDP", model.name);
                self.columns.push(column(&name, &scene)?);
            }
        }
        let mut tallies = [None, None];
        for (tally, connections) in tallies.iter_mut().zip(CONNECTIONS) {
            if connections == 1 || model.clients == Clients::Many {
                let pool = model.pool_flags(connections);
                let args = [&variant.args[..], &pool].concat();
                *tally = Some(count::measure(program, &args, connections)?);
            }
        }
        self.costs.push(Cost { title, tallies });
        Ok(())
    }
}

/// Returns whether the figure shows the variant: it has the five I/O models,
/// each with its first variant, except that the asynchronous variants wait in
/// different ways.
fn is_in_figure(model: &Model, variant: &Variant) -> bool {
    let first = model.variants[0].name == variant.name;
    match model.family {
        Family::Scaling => false,
        Family::Asynchronous => true,
        _ => first,
    }
}

/// Returns whether datagrams are received in another way: by a signal handler.
fn waits_otherwise_for_datagrams(model: &Model, variant: &Variant) -> bool {
    variant.promises.waits_in == WaitsIn::Signals
        && model.transports_of(variant).contains(&Transport::Udp)
}

fn column(title: &str, scene: &Recording) -> Result<Column> {
    Column::new(title, scene).context("the trace contains no request")
}
