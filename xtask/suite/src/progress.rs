//! What is running and what is left, on a terminal; failures as they come.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::case::{Outcome, Step};
use super::report::Row;

/// One line at the bottom of the terminal; nothing where standard error is
/// none.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    running: Mutex<BTreeMap<String, ()>>,
}

impl Progress {
    pub fn new(steps: usize) -> Self {
        // Hidden by indicatif itself where standard error is no terminal.
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        let style = ProgressStyle::with_template("{pos}/{len} {wide_msg}");
        bar.set_style(style.unwrap_or(ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, running: Mutex::default() }
    }

    pub fn started(&self, step: &Step) {
        let mut running = self.running();
        running.insert(step.name(), ());
        self.show(&running);
    }

    pub fn ended(&self, row: &Row) {
        let mut running = self.running();
        running.remove(&row.step.name());
        self.show(&running);
        self.bar.inc(1);
        if let Outcome::Failed(story) = &row.outcome {
            self.bar.suspend(|| {
                println!("FAILED {}", row.step.name());
                for line in story.lines() {
                    println!("    {line}");
                }
                println!();
            });
        }
    }

    pub fn close(&self) {
        self.bar.finish_and_clear();
    }

    fn show(&self, running: &BTreeMap<String, ()>) {
        let names: Vec<_> = running.keys().map(String::as_str).collect();
        self.bar.set_message(names.join(", "));
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, ()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
