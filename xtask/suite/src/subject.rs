//! The subject of a case: one model in one variant.

use std::path::PathBuf;

use lab::model::{Clients, Model, Transport, Variant};
use lab::promises::Promises;

/// One model in one variant: what the suite knows of it is what its manifest
/// declares, and where its program is.
#[derive(Clone, Debug)]
pub struct Subject {
    pub model: Model,
    pub variant: Variant,
    pub program: PathBuf,
}

impl Subject {
    pub fn title(&self) -> String {
        self.model.title(&self.variant)
    }

    pub fn promises(&self) -> &Promises {
        &self.variant.promises
    }

    /// Tells whether it serves one client at a time.
    pub fn serves_one(&self) -> bool {
        self.model.clients == Clients::One
    }

    pub fn serves(&self, transport: Transport) -> bool {
        self.model.transports_of(&self.variant).contains(&transport)
    }
}
