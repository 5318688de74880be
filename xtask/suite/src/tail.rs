//! The last lines of a pipe, read by a thread as they come.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use super::PATIENCE;

/// Enough for any story, and a bound for a server that raves.
const LINES_KEPT: usize = 200;

/// A pipe's last lines.
#[derive(Clone, Debug)]
pub struct Tail {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    seen: usize,
    ended: bool,
}

impl Tail {
    /// Reads `pipe` on a thread until its last writer has gone.
    pub fn follow(pipe: impl Read + Send + 'static) -> Result<Self> {
        let tail = Self { shared: Arc::default() };
        let ours = tail.clone();
        thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || ours.collect(pipe))
            .context("cannot start a thread")?;
        Ok(tail)
    }

    fn collect(&self, pipe: impl Read) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let mut lines = self.lines();
            if lines.kept.len() == LINES_KEPT {
                lines.kept.pop_front();
            }
            lines.kept.push_back(text);
            lines.seen += 1;
            self.shared.1.notify_all();
        }
        self.lines().ended = true;
        self.shared.1.notify_all();
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines there were, those no longer kept included.
    pub fn count(&self) -> usize {
        self.lines().seen
    }

    pub fn text(&self) -> String {
        Vec::from(self.lines().kept.clone()).join("\n")
    }

    /// Waits for a line that holds `words`, and returns it.
    pub fn wait_for(&self, words: &str) -> Result<String> {
        self.wait(&format!("{words:?} on standard error"), |lines| {
            lines.kept.iter().find(|line| line.contains(words)).cloned()
        })
    }

    /// Waits until every process that could write to the pipe has gone.
    pub fn wait_for_end(&self) -> Result<()> {
        self.wait("the end of standard error", |l| l.ended.then_some(()))
    }

    fn wait<T>(
        &self,
        awaited: &str,
        look: impl Fn(&Lines) -> Option<T>,
    ) -> Result<T> {
        let (mut lines, mut found) = (self.lines(), None);
        let unseen = |lines: &mut Lines| {
            found = look(lines);
            found.is_none() && !lines.ended
        };
        (lines, _) = self
            .shared
            .1
            .wait_timeout_while(lines, PATIENCE, unseen)
            .unwrap_or_else(PoisonError::into_inner);
        match found {
            Some(found) => Ok(found),
            None if lines.ended => bail!("there was no {awaited}"),
            None => bail!("waited {PATIENCE:?} in vain for {awaited}"),
        }
    }
}
