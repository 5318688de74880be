//! Traced scenes, each played once and kept for all cases that use it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use lab::Unsupported;
use lab::model::Transport;
use trace::scene::{self, Recording};

use super::skip::skip;

/// The time for which the client is silent. No case of the suite uses it.
const SILENCE: Duration = Duration::ZERO;

/// A recording, or why the scene could not be played.
type Scene = Arc<OnceLock<Result<Arc<Recording>>>>;

/// A program, its arguments, and the transport of the scene.
type Key = (PathBuf, Vec<String>, Transport);

/// The scenes played so far.
#[derive(Debug, Default)]
pub struct Scenes(Mutex<HashMap<Key, Scene>>);

impl Scenes {
    /// Returns the scene, which is played now if it has not been. Skips the
    /// case if the machine does not permit tracing, or the kernel can't run the
    /// model.
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
                // The reason alone, so that it is the same for all servers.
                Some(refused) => skip(refused.to_string()),
                None => anyhow!("{error:#}"),
            }),
        }
    }
}
