//! All models traced: how each waits, and what it calls.

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

/// At how many connections calls are counted.
pub const CONNECTIONS: [usize; 2] = [1, 50];

/// The results of tracing all models.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub columns: Vec<Column>,
    pub costs: Vec<Cost>,
    /// Titles and timelines, as a terminal shows them.
    pub timelines: Vec<(String, String)>,
    /// Models that can't be traced here, and why.
    pub missing: Vec<(String, String)>,
}

/// System calls a request, of one model.
#[derive(Clone, Debug)]
pub struct Cost {
    pub title: String,
    /// For each of `CONNECTIONS`; None where it does not serve so many.
    pub tallies: [Option<Tally>; 2],
}

/// Plays the scene and counts calls, model by model. Fails with [`Unsupported`]
/// where none of them can be traced here.
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
                let args = &variant.args;
                *tally = Some(count::measure(program, args, connections)?);
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
