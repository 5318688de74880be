//! When a server under the tracer has done all that there was to do. A pause
//! would do on a machine that is never busy; here the trace itself tells.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::process::poll_until;
use nix::unistd::Pid;

use super::calls::{self, Family};
use super::event::{Event, EventKind};
use super::tracer::Tracee;

/// How long the server may take, in a trace and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that has not come to rest after so many events is one that never
/// does. To start a process or a thread takes some hundred.
const ROUNDS: usize = 1_000;

/// Looks at a trace as it grows.
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

    /// Waits for an event that has not been looked at.
    pub fn until(
        &mut self,
        awaited: &str,
        is_it: fn(Option<Family>, &EventKind) -> bool,
    ) -> Result<()> {
        let tracee = self.tracee;
        poll_until(awaited, PATIENCE, || {
            tracee.look(|state| {
                let new = &state.events[self.seen..];
                let found = new.iter().position(|it| self.is(it, is_it));
                self.seen += found.map_or(new.len(), |place| place + 1);
                let serves = state.status.is_none();
                ensure!(found.is_some() || serves, "the server has ended");
                Ok(found.is_some())
            })
        })
    }

    fn is(
        &mut self,
        event: &Event,
        is_it: fn(Option<Family>, &EventKind) -> bool,
    ) -> bool {
        if let EventKind::Enter(call) = &event.what {
            self.calls.insert(event.tid, call.name);
        }
        let call = self.calls.get(&event.tid);
        let call = call.map(|name| calls::of(name).family);
        is_it(call, &event.what)
    }

    /// A newcomer is accepted.
    pub fn accepts(call: Option<Family>, what: &EventKind) -> bool {
        match what {
            EventKind::Exit(outcome) => {
                call == Some(Family::Accept) && outcome.result >= 0
            }
            EventKind::Completed(done) => {
                done.operation.family == Family::Accept && done.result >= 0
            }
            _ => false,
        }
    }

    /// A call, or an operation, has received the end of file.
    pub fn sees_the_end(call: Option<Family>, what: &EventKind) -> bool {
        match what {
            EventKind::Exit(outcome) => {
                call == Some(Family::Receive) && outcome.result == 0
            }
            EventKind::Completed(done) => {
                done.operation.family == Family::Receive && done.result == 0
            }
            _ => false,
        }
    }

    /// Waits until every thread sleeps in a call, or, of a server that never
    /// sleeps, until it has gone round some times.
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
