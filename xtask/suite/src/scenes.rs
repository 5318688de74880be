//! Traced scenes, each played once and kept for all cases that look at it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use lab::Unsupported;
use lab::model::{Transport, Variant};
use trace::scene::{self, Recording};

use super::skip::skip;

/// The time for which the client is silent: here nobody looks at it.
const SILENCE: Duration = Duration::ZERO;

/// The outcome of a scene.
#[derive(Clone, Debug)]
enum Outcome {
    Recorded(Arc<Recording>),
    /// The machine does not let us trace, or the kernel can't run the model.
    Refused(String),
    Failed(String),
}

type Place = Arc<OnceLock<Outcome>>;

/// The scenes that were played, by title and transport.
#[derive(Debug, Default)]
pub struct Scenes(Mutex<HashMap<(String, Transport), Place>>);

impl Scenes {
    /// Returns the scene, played now if it has not been.
    pub fn seen(
        &self,
        title: String,
        program: &Path,
        variant: &Variant,
        transport: Transport,
    ) -> Result<Arc<Recording>> {
        let key = (title, transport);
        let place = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key).or_default())
        };
        match place.get_or_init(|| play(program, variant, transport)) {
            Outcome::Recorded(scene) => Ok(Arc::clone(scene)),
            Outcome::Refused(why) => Err(skip(why.clone())),
            Outcome::Failed(why) => Err(anyhow!("{why}")),
        }
    }
}

fn play(program: &Path, variant: &Variant, transport: Transport) -> Outcome {
    match scene::play_with(program, &variant.args, transport, SILENCE) {
        Ok(scene) => Outcome::Recorded(Arc::new(scene)),
        Err(error) => match error.downcast_ref::<Unsupported>() {
            // One reason for all, whichever server it was.
            Some(refused) => Outcome::Refused(refused.to_string()),
            None => Outcome::Failed(format!("{error:#}")),
        },
    }
}
