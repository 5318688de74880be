//! The subject of a case: one model in one variant.

use std::path::PathBuf;

use lab::build;
use lab::examples::{self, Profile};
use lab::model::{Clients, Model, Transport, Variant, Workspace};
use lab::promises::Promises;

/// One model in one variant. The suite knows of it what its manifest declares,
/// and where its program is.
#[derive(Clone, Debug)]
pub struct Subject {
    pub model: Model,
    pub variant: Variant,
    pub program: PathBuf,
    /// The model's minimal program, which is built if a case needs it.
    pub minimal: Option<Example>,
    /// The model's minimal program for datagrams.
    pub minimal_datagrams: Option<Example>,
}

/// An example program of a model.
#[derive(Clone, Debug)]
pub struct Example {
    pub name: String,
    pub program: PathBuf,
}

impl Subject {
    pub fn new(
        workspace: &Workspace,
        model: &Model,
        variant: &Variant,
    ) -> Self {
        let example = |name: String| Example {
            program: examples::program(workspace, model, &name, Profile::Dev),
            name,
        };
        let datagrams = Some("minimal_datagrams".to_owned());
        let datagrams = datagrams.filter(|it| model.example(it).exists());
        Self {
            model: model.clone(),
            variant: variant.clone(),
            program: build::binary(workspace, model),
            minimal: model.minimal(variant).map(example),
            minimal_datagrams: datagrams.map(example),
        }
    }

    pub fn title(&self) -> String {
        self.model.title(&self.variant)
    }

    pub fn promises(&self) -> &Promises {
        &self.variant.promises
    }

    /// Returns whether it serves one client at a time.
    pub fn serves_one(&self) -> bool {
        self.model.clients == Clients::One
    }

    pub fn serves(&self, transport: Transport) -> bool {
        self.model.transports_of(&self.variant).contains(&transport)
    }
}
