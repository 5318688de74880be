//! The lines of a timeline: each step of the trace as text, with repetitions
//! folded.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use lab::number::{count, some};
use nix::unistd::Pid;

use super::call::CallStep;
use super::calls::Family;
use super::event::SI_ASYNCIO;
use super::fold::fold;
use super::phases::{Part, Phases};
use super::role::Role;
use super::steps::{Deed, Step, threads};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub at: Duration,
    /// The thread or process, if there are several.
    pub who: String,
    pub kind: LineKind,
    pub text: String,
    pub spent: Option<Duration>,
    pub phase: Option<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A call, or folded rounds of calls.
    Call,
    /// A call of this name that is unrelated to I/O.
    Housekeeping(&'static str),
    /// One end of a long call, or the call that copies. It is never folded.
    Once,
    /// A signal, a completion, a start or an end.
    Event,
    /// Something that the client did.
    Client,
    /// Explains a phase.
    Phase,
}

impl Line {
    /// Makes a line that belongs to no thread.
    pub fn new(at: Duration, kind: LineKind, text: String) -> Self {
        let who = String::new();
        Self { at, who, kind, text, spent: None, phase: None }
    }

    fn end(&self) -> Duration {
        self.at + self.spent.unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Copying,
}

/// A call that takes longer, while something else happens, has one line for its
/// beginning and one for its end.
const LONG: Duration = Duration::from_millis(2);

/// Returns whether a call has received what the client did.
fn brings(step: &Step) -> bool {
    let Some(call) = step.call() else { return false };
    let least = match call.family {
        Family::Accept => 0,
        Family::Receive | Family::Readiness => 1,
        _ => return false,
    };
    call.returns_at_least(least)
}

/// Formats steps as lines.
#[derive(Debug)]
pub struct Writer<'a> {
    steps: &'a [Step],
    /// The indices of the steps that are shown.
    shown: &'a [usize],
    /// The names of the threads that make these steps.
    pub names: HashMap<Pid, String>,
    phases: Option<&'a Phases>,
}

impl<'a> Writer<'a> {
    pub fn new(
        steps: &'a [Step],
        shown: &'a [usize],
        phases: Option<&'a Phases>,
    ) -> Self {
        let present: HashSet<_> =
            shown.iter().map(|it| steps[*it].tid).collect();
        let all = threads(steps).into_iter();
        let names = all.filter(|(tid, _)| present.contains(tid)).collect();
        Self { steps, shown, names, phases }
    }

    /// Returns the lines of the steps and of the client's acts, in order of
    /// time. A step during which something else happens has one line for its
    /// beginning and one for its end, unless it ends after `end`.
    pub fn lines(&self, client: &[Line], end: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        for (place, &index) in self.shown.iter().enumerate() {
            let step = &self.steps[index];
            let until = step.until.unwrap_or(step.at);
            let long = until.saturating_sub(step.at) > LONG;
            // Steps are sorted by their beginnings.
            let mut meanwhile = self.shown[place + 1..]
                .iter()
                .map(|index| &self.steps[*index])
                .take_while(|other| other.at < until);
            let client_did = (long || brings(step))
                && client.iter().any(|it| (step.at..until).contains(&it.at));
            // A short call during which shutdown begins is not a wait for it.
            if until >= end && long {
                lines.push(self.line(index, Part::Enter));
            } else if client_did
                || meanwhile.any(|other| other.tid == step.tid || long)
            {
                lines.push(self.line(index, Part::Enter));
                lines.push(self.line(index, Part::Return));
            } else {
                lines.push(self.line(index, Part::Whole));
            }
        }
        lines.extend_from_slice(client);
        // Stable: lines of the same moment stay in the order of the trace.
        lines.sort_by_key(|line| line.at);
        lines
    }

    fn line(&self, index: usize, part: Part) -> Line {
        let step = &self.steps[index];
        let lasts = part == Part::Enter || step.until.is_none();
        let copies = self.phases.is_some_and(|it| it.copier == index);
        let kind = match &step.deed {
            Deed::Call(_) if copies || part != Part::Whole => LineKind::Once,
            Deed::Call(call) if call.family == Family::Housekeeping => {
                LineKind::Housekeeping(call.name)
            }
            Deed::Call(_) => LineKind::Call,
            _ => LineKind::Event,
        };
        let text = match &step.deed {
            Deed::Call(call) if part == Part::Return => {
                format!("… {} = {}", call.name, self.outcome(call))
            }
            Deed::Call(call) if lasts => {
                format!("{}({}) …", call.name, call.in_brackets())
            }
            Deed::Call(call) => {
                let (brackets, outcome) =
                    (call.in_brackets(), self.outcome(call));
                format!("{}({brackets}) = {outcome}", call.name)
            }
            deed => event(step, deed),
        };
        let spent = step.until.map(|until| until.saturating_sub(step.at));
        let at = match part {
            Part::Return => step.until.unwrap_or(step.at),
            _ => step.at,
        };
        Line {
            at,
            who: self.names.get(&step.tid).cloned().unwrap_or_default(),
            kind,
            text,
            spent: spent.filter(|_| !lasts),
            phase: self.phase(index, at, part),
        }
    }

    /// Formats a result; processes and threads are given by their names.
    fn outcome(&self, call: &CallStep) -> String {
        let id = call.result.and_then(|result| i32::try_from(result).ok());
        let id = id.filter(|_| call.family == Family::Process);
        let name = id.and_then(|id| self.names.get(&Pid::from_raw(id)));
        name.cloned().unwrap_or_else(|| call.outcome())
    }

    /// Returns the phase that a part of a step is in.
    fn phase(&self, index: usize, at: Duration, part: Part) -> Option<Phase> {
        let phases = self.phases?;
        let (since, arrival) = phases.waiting;
        let begins = Some(index) == phases.waiter && part != Part::Return;
        if index == phases.copier {
            let before = part == Part::Enter && at < arrival;
            return Some(match before {
                true => Phase::Waiting,
                false => Phase::Copying,
            });
        }
        ((since..arrival).contains(&at) || begins).then_some(Phase::Waiting)
    }
}

/// Summarizes a part of the trace outside the scene.
pub fn summary(name: &str, steps: &[Step]) -> Line {
    let calls = steps.iter().filter(|step| step.call().is_some()).count();
    let at = steps.first().map_or(Duration::ZERO, |step| step.at);
    let last = steps.last().map(|step| step.at);
    let text = format!("{name}: {}", some(calls, "call"));
    let spent = last.map(|last| last.saturating_sub(at));
    Line { spent, ..Line::new(at, LineKind::Call, text) }
}

/// Formats a step that is not a call.
fn event(step: &Step, deed: &Deed) -> String {
    match deed {
        Deed::Completed(done) => {
            let (name, role) = (done.operation.name, &done.role);
            let about = match role {
                Role::Unknown(_) => String::new(),
                role => role.to_string(),
            };
            format!("completed: {name}({about}) = {}", done.outcome())
        }
        Deed::Signal(signal, Some(role)) => {
            format!("signal {signal}: {role} ready")
        }
        Deed::Signal(signal, None) => match signal.sender {
            Some(_) if signal.code == SI_ASYNCIO => {
                format!("signal {signal}: an operation is done")
            }
            Some(sender) if sender == step.pid => {
                format!("signal {signal}, from within")
            }
            _ => format!("signal {signal}"),
        },
        Deed::Started(true) => "begins: a process".to_owned(),
        Deed::Started(false) => "begins: a thread".to_owned(),
        Deed::Executed => "becomes the server".to_owned(),
        Deed::Ended(_) => "ends".to_owned(),
        Deed::Call(call) => call.name.to_owned(),
    }
}

/// Folds equal lines.
pub fn folded(lines: &[Line]) -> Vec<Line> {
    let lines: Vec<_> = lines.chunk_by(is_more_of).map(tidied).collect();
    let is_call = |line: &&Line| line.kind == LineKind::Call;
    let key = |line| Some(line).filter(is_call).map(|it| (&it.who, &it.text));
    let keys: Vec<_> = lines.iter().map(key).collect();
    let mut folded = Vec::new();
    for piece in fold(&keys) {
        let all = &lines[piece.range];
        let round = &all[..all.len() / piece.rounds];
        if piece.rounds == 1 {
            folded.extend_from_slice(round);
            continue;
        }
        let phase = all.iter().find_map(|line| line.phase);
        let time = all[all.len() - 1].end().saturating_sub(all[0].at);
        for (place, line) in round.iter().enumerate() {
            let many = count(piece.rounds as f64);
            let text = format!("{many} × {}", line.text);
            let spent = (place == 0).then_some(time);
            folded.push(Line { text, spent, phase, ..line.clone() });
        }
    }
    folded
}

/// Returns whether two lines are about housekeeping of the same thread.
fn is_more_of(line: &Line, next: &Line) -> bool {
    let both = [line, next].map(|it| it.kind);
    let housekeep = both.map(|it| matches!(it, LineKind::Housekeeping(_)));
    housekeep == [true, true] && line.who == next.who
}

/// Combines consecutive housekeeping calls into one line.
fn tidied(lines: &[Line]) -> Line {
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    let mut names: Vec<_> = lines
        .iter()
        .filter_map(|line| match line.kind {
            LineKind::Housekeeping(name) => Some(name),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return first.clone();
    }
    names.dedup();
    let more = if names.len() > 3 { ", …" } else { "" };
    names.truncate(3);
    let text = format!("{}{more}", names.join(", "));
    let spent = Some(last.end().saturating_sub(first.at));
    Line { text, spent, ..first.clone() }
}
