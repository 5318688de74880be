//! Traced scenes, each played once and kept for all cases that look at it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use lab::Unsupported;
use lab::model::Transport;
use trace::scene::{self, Recording};

use super::skip::skip;

/// The time for which the client is silent: here nobody looks at it.
const SILENCE: Duration = Duration::ZERO;

/// A scene that was played, or why it could not be.
type Scene = Arc<OnceLock<Result<Arc<Recording>>>>;

/// A program, its arguments, and the transport of the scene.
type Key = (PathBuf, Vec<String>, Transport);

/// The scenes that were played.
#[derive(Debug, Default)]
pub struct Scenes(Mutex<HashMap<Key, Scene>>);

impl Scenes {
    /// Returns the scene, played now if it has not been. Skips the case where
    /// the machine does not let us trace, or the kernel can't run the model.
    pub fn recording(
        &self,
        program: &Path,
        arguments: &[String],
        transport: Transport,
    ) -> Result<Arc<Recording>> {
        let key = (program.to_owned(), arguments.to_vec(), transport);
        let scene = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key).or_default())
        };
        let recording = scene.get_or_init(|| {
            scene::play_with(program, arguments, transport, SILENCE)
                .map(Arc::new)
        });
        match recording {
            Ok(recording) => Ok(Arc::clone(recording)),
            Err(error) => Err(match error.downcast_ref::<Unsupported>() {
                // One reason for all, whichever server it was.
                Some(refused) => skip(refused.to_string()),
                None => anyhow!("{error:#}"),
            }),
        }
    }
}
