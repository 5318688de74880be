//! Events combined into steps: each call with its end, decoded.

use std::collections::HashMap;
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::Pid;

use super::call::{Answer, Argument, CallStep, Handover};
use super::calls::{self, Family, Operation};
use super::decode::{View, completed};
use super::event::{
    Call, Completion, Event, EventKind, Outcome, Signal, Submission,
};
use super::names;
use super::role::Role;
use super::roles::Roles;

/// Something that a thread did, or that happened to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: Duration,
    /// When a call returned; None if it never did. Other steps have no
    /// duration.
    pub until: Option<Duration>,
    pub pid: Pid,
    pub tid: Pid,
    pub deed: Deed,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Call(CallStep),
    /// The kernel has completed an operation for io_uring.
    Completed(OperationStep),
    /// A signal interrupts the thread, or a call has fetched it. The role is
    /// that of the descriptor that it reports.
    Signal(Signal, Option<Role>),
    /// The thread or process begins; true for a process.
    Started(bool),
    Executed,
    Ended(ExitStatus),
}

/// A completed operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationStep {
    pub operation: Operation,
    pub role: Role,
    pub result: i32,
    pub answer: Answer,
    /// True if it was completed between the entry and the return of an
    /// io_uring_enter(2) of this thread.
    pub inside: bool,
}

impl Step {
    pub fn call(&self) -> Option<&CallStep> {
        match &self.deed {
            Deed::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Returns the signal, and the descriptor that it reports.
    pub fn signal(&self) -> Option<(Signal, Option<&Role>)> {
        match &self.deed {
            Deed::Signal(signal, role) => Some((*signal, role.as_ref())),
            _ => None,
        }
    }
}

impl OperationStep {
    /// Returns whether data or EOF was received.
    pub fn receives(&self) -> bool {
        self.operation.family == Family::Receive
    }

    /// Returns whether a client was accepted.
    pub fn accepts(&self) -> bool {
        self.operation.family == Family::Accept && self.result >= 0
    }

    pub fn outcome(&self) -> String {
        self.answer.in_words(self.result.into(), Some(&self.role))
    }
}

/// Returns all steps of a trace, in the order in which they began.
pub fn steps(events: &[Event]) -> Vec<Step> {
    let mut maker = Maker::default();
    for event in events {
        maker.take(event);
    }
    maker.steps
}

#[derive(Debug, Default)]
struct Maker {
    roles: Roles,
    steps: Vec<Step>,
    /// Each thread's call that has not returned, and the index of its step.
    open: HashMap<Pid, (usize, Call)>,
}

impl Maker {
    fn take(&mut self, event: &Event) {
        self.roles.happened(event.pid, &event.what);
        match &event.what {
            EventKind::Enter(call) => self.enter(event, call),
            EventKind::Exit(outcome) => self.exit(event, outcome),
            EventKind::Submitted(submission) => self.submit(event, submission),
            EventKind::Completed(completion) => {
                self.complete(event, completion);
            }
            EventKind::Signal(signal) => self.signal(event, *signal),
            EventKind::Started { by } => {
                self.push(event, Deed::Started(*by != event.pid));
            }
            EventKind::Executed => self.push(event, Deed::Executed),
            EventKind::Ended(status) => {
                self.open.remove(&event.tid);
                self.push(event, Deed::Ended(*status));
            }
        }
    }

    fn push(&mut self, event: &Event, deed: Deed) {
        self.steps.push(Step {
            at: event.at,
            until: None,
            pid: event.pid,
            tid: event.tid,
            deed,
        });
    }

    fn enter(&mut self, event: &Event, call: &Call) {
        let view = View { roles: &self.roles, pid: event.pid };
        let arguments = view.arguments(&calls::of(call.name), call);
        self.open.insert(event.tid, (self.steps.len(), call.clone()));
        let call = CallStep::new(call.name, arguments);
        self.push(event, Deed::Call(call));
    }

    fn exit(&mut self, event: &Event, outcome: &Outcome) {
        let Some((index, call)) = self.open.remove(&event.tid) else { return };
        let spec = calls::of(call.name);
        if outcome.result >= 0 {
            self.roles.called(event.pid, &spec, &call, outcome);
        }
        let view = View { roles: &self.roles, pid: event.pid };
        let answer = view.answer(&spec, &call, outcome);
        let signals = match &answer {
            Answer::Signals(signals) => signals.clone(),
            Answer::Signal => {
                Vec::from_iter(Signal::parse(outcome.memory.of(1)))
            }
            _ => Vec::new(),
        };
        let step = &mut self.steps[index];
        step.until = Some(event.at);
        if let Deed::Call(step) = &mut step.deed {
            step.result = Some(outcome.result);
            step.answer = answer;
        }
        // These signals were fetched, not delivered.
        for signal in signals {
            self.signal(event, signal);
        }
    }

    fn signal(&mut self, event: &Event, signal: Signal) {
        let role = signal.fd.map(|fd| self.roles.of(event.pid, fd));
        self.push(event, Deed::Signal(signal, role));
    }

    fn submit(&mut self, event: &Event, submission: &Submission) {
        let Some((index, _)) = self.open.get(&event.tid) else { return };
        let role = self.roles.of(event.pid, submission.fd);
        let Deed::Call(call) = &mut self.steps[*index].deed else { return };
        call.submitted.push(Handover {
            operation: submission.operation,
            role,
            flags: submission.flags,
            data: submission.data.clone(),
        });
    }

    fn complete(&mut self, event: &Event, completion: &Completion) {
        let Completion { operation, fd, result, .. } = *completion;
        let role = self.roles.of(event.pid, fd);
        let accepts = operation.family == Family::Accept && result >= 0;
        let answer = match accepts {
            true => Answer::Descriptor(self.roles.accepted(event.pid, result)),
            false => completed(
                operation,
                result,
                completion.header,
                &completion.data,
            ),
        };
        let open = self.open.get(&event.tid);
        let family = open.map(|(_, call)| calls::of(call.name).family);
        let inside = family == Some(Family::Ring);
        let done = OperationStep { operation, role, result, answer, inside };
        self.push(event, Deed::Completed(done));
    }
}

/// Returns whether io_uring copies only inside io_uring_enter(2), on the thread
/// that calls it (IORING_SETUP_DEFER_TASKRUN).
pub fn defers_copies(steps: &[Step]) -> bool {
    let asks = |argument: &Argument| match argument {
        Argument::RingFlags(flags) => {
            flags & names::IORING_SETUP_DEFER_TASKRUN != 0
        }
        _ => false,
    };
    let mut calls = steps.iter().filter_map(Step::call);
    calls
        .any(|call| call.arguments.iter().any(asks) && call.returns_at_least(0))
}

/// Returns whether a signal interrupts its thread. Other signals are fetched by
/// a call, and are seen when it returns.
pub fn is_delivered(steps: &[Step], signal: &Step) -> bool {
    fetches(steps, signal).is_none()
}

/// Returns the call that has fetched a signal.
pub fn fetches<'a>(steps: &'a [Step], signal: &Step) -> Option<&'a CallStep> {
    let ends =
        |step: &&Step| step.tid == signal.tid && step.until == Some(signal.at);
    steps.iter().filter(ends).find_map(Step::call)
}

/// Returns all threads in the order of their appearance. The first is `main`.
pub fn threads(steps: &[Step]) -> Vec<(Pid, String)> {
    let (mut children, mut others) = (0, 0);
    let mut all: Vec<(Pid, String)> = Vec::new();
    for step in steps {
        if all.iter().any(|(tid, _)| *tid == step.tid) {
            continue;
        }
        let name = if all.is_empty() {
            "main".to_owned()
        } else if step.pid == step.tid {
            children += 1;
            format!("child {children}")
        } else {
            others += 1;
            format!("thread {others}")
        };
        all.push((step.tid, name));
    }
    all
}
