//! Determines from a trace which threads wait, how the program learns of the
//! data, and which thread copies it.

use nix::unistd::Pid;

use super::account::{Account, Copier, Learning, Waits};
use crate::call::CallStep;
use crate::calls::Family;
use crate::event::SI_ASYNCIO;
use crate::phases::{Phases, Place, sleeps_at};
use crate::steps::{Deed, Step, fetches, is_delivered};

/// How one model serves the request. Steps are given by their indices.
#[derive(Debug)]
pub struct Story<'a> {
    steps: &'a [Step],
    phases: &'a Phases,
    main: Pid,
    /// The call in which the main thread is asleep when the data arrives.
    pub sleeper: Option<usize>,
    /// The call in which another thread is asleep then.
    other: Option<usize>,
    /// The signal whose handler copies.
    pub handler: Option<usize>,
}

impl<'a> Story<'a> {
    pub fn new(steps: &'a [Step], phases: &'a Phases) -> Self {
        let main = steps.first().map_or(Pid::from_raw(0), |step| step.tid);
        let arrival = phases.waiting.1;
        let sleeping = |mains: bool| {
            steps.iter().position(|step| {
                step.call().is_some()
                    && is_shown(step)
                    && sleeps_at(step, arrival)
                    && (step.tid == main) == mains
            })
        };
        let copy = &steps[phases.copier];
        let role = copy.call().and_then(CallStep::role);
        let interrupts = |step: &Step| {
            step.signal().is_some_and(|(_, about)| about == role)
                && step.tid == copy.tid
                && (arrival..=copy.at).contains(&step.at)
                && is_delivered(steps, step)
        };
        Self {
            steps,
            phases,
            main,
            sleeper: sleeping(true),
            other: sleeping(false),
            handler: role.and_then(|_| steps.iter().position(interrupts)),
        }
    }

    /// Returns whether a step is part of the call above it: a signal that it
    /// fetched, a handler's call, or a completion inside io_uring_enter(2).
    pub fn is_inside(&self, index: usize) -> bool {
        let step = &self.steps[index];
        match (&step.deed, self.handler) {
            (Deed::Completed(done), _) => {
                done.inside && self.phases.place == Place::Enter
            }
            (Deed::Signal(..), _) => !is_delivered(self.steps, step),
            (Deed::Call(_), Some(handler)) => {
                index > handler && step.tid == self.steps[handler].tid
            }
            _ => false,
        }
    }

    /// Returns whether a step is the wait that the handler interrupts. It
    /// returns after the handler, whatever the tracer sees before.
    pub fn is_interrupted(&self, index: usize) -> bool {
        self.handler.is_some() && Some(index) == self.sleeper
    }

    pub fn account(&self) -> Account {
        Account {
            waits: Waits {
                main: self.call(self.sleeper).map(|call| call.name),
                other: self.call(self.other).map(|call| call.name),
                empty: self.phases.empty,
            },
            learns: self.learns(),
            copies: self.copies(),
        }
    }

    fn call(&self, index: Option<usize>) -> Option<&'a CallStep> {
        self.steps[index?].call()
    }

    fn learns(&self) -> Learning {
        let wait = self.call(self.sleeper).map(|call| call.name);
        let copier = self.phases.copier;
        let handler = self.handler.and_then(|it| self.steps[it].signal());
        match (wait, self.call(Some(copier))) {
            (Some(wait), _) if let Some((signal, _)) = handler => {
                Learning::Handler(signal, wait)
            }
            (wait, None) => Learning::Completion(wait),
            (Some(_), _) if self.collects_completion() => {
                Learning::Completion(wait)
            }
            (Some(wait), Some(copy)) if self.sleeper != Some(copier) => {
                let reader = self.fetched(copy).map(|call| call.name);
                Learning::Return(wait, reader)
            }
            (_, Some(copy)) => Learning::Copy(copy.name),
        }
    }

    /// Returns whether the wait returned a signal that reports the completion
    /// of an aio_read(3).
    fn collects_completion(&self) -> bool {
        let until = self.sleeper.and_then(|index| self.steps[index].until);
        let mut fetched = self.steps.iter().filter(|it| Some(it.at) == until);
        fetched.any(|step| {
            step.signal().is_some_and(|(signal, _)| signal.code == SI_ASYNCIO)
        })
    }

    /// Returns the call that fetched a signal about the socket, before the
    /// copy.
    fn fetched(&self, copy: &CallStep) -> Option<&'a CallStep> {
        let arrival = self.phases.waiting.1;
        let before = &self.steps[..self.phases.copier];
        let signal = before.iter().find(|step| {
            let about = step.signal().map(|(_, role)| role);
            step.at >= arrival && about == Some(copy.role())
        });
        fetches(self.steps, signal?)
    }

    fn copies(&self) -> Copier {
        let copy = &self.steps[self.phases.copier];
        match (copy.call(), self.phases.place) {
            (Some(call), _) if self.handler.is_some() => {
                Copier::Handler(call.name)
            }
            (Some(call), _) if copy.tid != self.main => {
                Copier::OtherThread(call.name)
            }
            (Some(call), _) => Copier::Call(call.name),
            (None, Place::Enter) => Copier::Call("io_uring_enter"),
            (None, _) => Copier::Kernel,
        }
    }
}

/// Returns whether a step is shown. Calls for memory and the like are unrelated
/// to I/O. So are those with which a library's threads synchronize, and the
/// check whether there are more signals.
pub fn is_shown(step: &Step) -> bool {
    match &step.deed {
        Deed::Call(call) => {
            let more_signals = call.family == Family::Signals
                && call.result.is_some_and(|result| result < 0);
            let quiet =
                matches!(call.family, Family::Thread | Family::Housekeeping);
            !more_signals && !quiet
        }
        Deed::Completed(done) => {
            matches!(done.operation.family, Family::Receive | Family::Accept)
        }
        Deed::Signal(..) => true,
        Deed::Started(_) | Deed::Executed | Deed::Ended(_) => false,
    }
}
