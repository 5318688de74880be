//! Detects when a server under the tracer has done all that there was to do. On
//! an idle machine a pause would be enough; here the trace shows it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::process::poll_until;
use nix::unistd::Pid;

use super::calls::{self, Family};
use super::event::{Event, EventKind};
use super::tracer::Tracee;

/// The longest time that the server may take, traced and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that has not come to rest after this many events never does.
/// Starting a process or a thread takes some hundred.
const ROUNDS: usize = 1_000;

/// Watches a trace as it grows.
#[derive(Debug)]
pub struct Watch<'a> {
    tracee: &'a Tracee,
    seen: usize,
    /// The call that each thread is in.
    calls: HashMap<Pid, &'static str>,
}

impl<'a> Watch<'a> {
    pub fn new(tracee: &'a Tracee) -> Self {
        Self { tracee, seen: 0, calls: HashMap::new() }
    }

    /// Waits until a call or an operation of that family ends with a result for
    /// which `is_it` returns true. Events that were examined before don't
    /// count.
    pub fn until(
        &mut self,
        awaited: &str,
        family: Family,
        is_it: fn(i64) -> bool,
    ) -> Result<()> {
        let tracee = self.tracee;
        poll_until(awaited, PATIENCE, || {
            tracee.look(|state| {
                for event in &state.events[self.seen..] {
                    self.seen += 1;
                    let ended = self.ended(event);
                    if ended.is_some_and(|it| it.0 == family && is_it(it.1)) {
                        return Ok(true);
                    }
                }
                ensure!(state.status.is_none(), "the server has ended");
                Ok(false)
            })
        })
    }

    /// Returns the call or operation that has ended, and its result.
    fn ended(&mut self, event: &Event) -> Option<(Family, i64)> {
        match &event.what {
            EventKind::Enter(call) => {
                self.calls.insert(event.tid, call.name);
                None
            }
            EventKind::Exit(outcome) => {
                let name = self.calls.get(&event.tid)?;
                Some((calls::of(name).family, outcome.result))
            }
            EventKind::Completed(done) => {
                Some((done.operation.family, done.result.into()))
            }
            _ => None,
        }
    }

    /// Waits until every thread sleeps in a call or, for a server that never
    /// sleeps, until it has made some rounds.
    pub fn rest(&mut self) -> Result<()> {
        let mut first = None;
        poll_until("the server to rest", PATIENCE, || {
            Ok(self.tracee.look(|state| {
                let count = state.events.len();
                let first = *first.get_or_insert(count);
                state.rests() || count - first > ROUNDS
            }))
        })
    }
}
