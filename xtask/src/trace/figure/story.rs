//! Who waits, how the program learns of the data, and who copies it: read from
//! the trace, and put into a sentence each.

use nix::unistd::Pid;

use super::column::{is_shown, sleeps_at};
use crate::compare::number::count;
use crate::trace::call::CallStep;
use crate::trace::event::SI_ASYNCIO;
use crate::trace::phases::{Phases, Place};
use crate::trace::steps::{Deed, Step, fetches, is_delivered};

/// A column in words, in the terms of all models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub waits: String,
    pub learns: String,
    pub copies: String,
}

/// The request, as one model serves it. Steps go by their indices.
#[derive(Debug)]
pub struct Story<'a> {
    steps: &'a [Step],
    phases: &'a Phases,
    main: Pid,
    /// The call in which the main thread is asleep when the data comes.
    pub sleeper: Option<usize>,
    /// Another thread's.
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
        let interrupts = |step: &Step| match &step.deed {
            Deed::Signal(_, about) => {
                about.as_ref() == role
                    && step.tid == copy.tid
                    && (arrival..=copy.at).contains(&step.at)
                    && is_delivered(steps, step)
            }
            _ => false,
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

    /// Whether a step is part of the call above it: a signal that it fetched,
    /// a handler's call, or what a ring does inside io_uring_enter(2).
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

    /// Whether a step is the wait that the handler interrupts. It returns when
    /// the handler has, whatever the tracer sees before.
    pub fn is_interrupted(&self, index: usize) -> bool {
        self.handler.is_some() && Some(index) == self.sleeper
    }

    pub fn said(&self) -> Said {
        Said {
            waits: self.waits(),
            learns: self.learns(),
            copies: self.copies(),
        }
    }

    fn call(&self, index: Option<usize>) -> Option<&'a CallStep> {
        self.steps[index?].call()
    }

    fn waits(&self) -> String {
        let empty = self.phases.empty;
        let waits = match self.call(self.sleeper) {
            Some(call) => format!("waits in {}", call.name),
            None => {
                let many = count(empty as f64);
                format!("waits in no call; {many} calls return EAGAIN")
            }
        };
        match self.call(self.other) {
            Some(call) => format!("{waits}; another thread, in {}", call.name),
            None => waits,
        }
    }

    fn learns(&self) -> String {
        let call = self.call(self.sleeper);
        if let (Some(handler), Some(call)) = (self.handler, call) {
            let Deed::Signal(signal, _) = &self.steps[handler].deed else {
                return String::new();
            };
            let name = call.name;
            return format!(
                "learns by the handler of {signal}, which runs inside {name}"
            );
        }
        let copier = self.phases.copier;
        match (call, self.call(Some(copier))) {
            (Some(call), None) => {
                format!("learns by the completion that {} returns", call.name)
            }
            (Some(call), _) if self.collects_completion() => {
                format!("learns by the completion that {} returns", call.name)
            }
            (Some(call), Some(copy)) if self.sleeper != Some(copier) => {
                let learns = format!("learns by the return of {}", call.name);
                match self.fetched(copy) {
                    Some(read) => {
                        format!("{learns}; {} says which socket", read.name)
                    }
                    None => learns,
                }
            }
            (_, Some(copy)) => {
                format!("learns by the return of {}, after the copy", copy.name)
            }
            (None, None) => "learns by a completion".to_owned(),
        }
    }

    /// Whether the wait returned a signal that says that an operation of
    /// aio_read(3) is complete.
    fn collects_completion(&self) -> bool {
        let until = self.sleeper.and_then(|index| self.steps[index].until);
        self.steps.iter().any(|step| match &step.deed {
            Deed::Signal(signal, _) => {
                signal.code == SI_ASYNCIO && Some(step.at) == until
            }
            _ => false,
        })
    }

    /// The call that fetched a signal about the socket, before the copy.
    fn fetched(&self, copy: &CallStep) -> Option<&'a CallStep> {
        let arrival = self.phases.waiting.1;
        let before = &self.steps[..self.phases.copier];
        let signal = before.iter().find(|step| match &step.deed {
            Deed::Signal(_, role) => {
                step.at >= arrival && role.as_ref() == copy.role()
            }
            _ => false,
        });
        fetches(self.steps, signal?)
    }

    fn copies(&self) -> String {
        let copy = &self.steps[self.phases.copier];
        match (copy.call(), self.phases.place) {
            (Some(call), _) if self.handler.is_some() => {
                format!("copies in {}, which the handler calls", call.name)
            }
            (Some(call), _) if copy.tid != self.main => {
                format!("copies in {}, on the other thread", call.name)
            }
            (Some(call), _) => format!("copies in {}", call.name),
            (None, Place::Enter) => "copies in io_uring_enter".to_owned(),
            (None, _) => {
                "copies in no call: the kernel does, at any moment".to_owned()
            }
        }
    }
}
