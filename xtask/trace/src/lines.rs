//! The lines of a timeline: each entry of the trace in words, what repeats
//! itself once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use lab::number::count;
use nix::unistd::Pid;

use super::call::CallStep;
use super::calls::Family;
use super::event::SI_ASYNCIO;
use super::fold::{Piece, fold};
use super::phases::Phases;
use super::role::Role;
use super::steps::{Deed, Step, threads};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub at: Duration,
    /// Which thread or process, where there are several.
    pub who: String,
    pub kind: LineKind,
    pub text: String,
    pub spent: Option<Duration>,
    pub phase: Option<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A call, one end of a call that lasts, or rounds that were folded.
    Call,
    /// A signal, a completion, a start or an end.
    Event,
    /// Something that the client did.
    Client,
    /// Explains a phase.
    Phase,
}

impl Line {
    /// A line that is no thread's.
    pub fn new(at: Duration, kind: LineKind, text: String) -> Self {
        let who = String::new();
        Self { at, who, kind, text, spent: None, phase: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Copying,
}

/// A step, or its beginning or its end if something lies between: each has a
/// line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Whole(usize),
    Enter(usize),
    Return(usize),
    Mark(usize),
}

/// The names of the threads that are seen.
pub fn names(steps: &[Step], shown: &[usize]) -> HashMap<Pid, String> {
    let present: HashSet<_> = shown.iter().map(|it| steps[*it].tid).collect();
    let all = threads(steps).into_iter();
    all.filter(|(tid, _)| present.contains(tid)).collect()
}

/// A call that takes longer, while somebody else does something, has a line
/// for its beginning and one for its end.
const LONG: Duration = Duration::from_millis(2);

/// Whether a call has brought what the client did.
fn brings(step: &Step) -> bool {
    let Some(call) = step.call() else { return false };
    let least = match call.family {
        Family::Accept => 0,
        Family::Receive | Family::Readiness => 1,
        _ => return false,
    };
    call.returns_at_least(least)
}

/// The entries of the steps before `end`, in the order of time.
pub fn entries(
    steps: &[Step],
    shown: &[usize],
    client: &[(Duration, String)],
    end: Duration,
) -> Vec<Entry> {
    let mut all: Vec<(Duration, Entry)> = Vec::new();
    for (place, &index) in shown.iter().enumerate() {
        let step = &steps[index];
        let until = step.until.unwrap_or(step.at);
        let long = until.saturating_sub(step.at) > LONG;
        // Steps are in the order of their beginnings.
        let meanwhile = shown[place + 1..]
            .iter()
            .map(|index| &steps[*index])
            .take_while(|other| other.at < until);
        let interrupts = |other: &Step| other.tid == step.tid || long;
        let client_did = (long || brings(step))
            && client.iter().any(|(at, _)| (step.at..until).contains(at));
        // A short call that the stop meets is not one that waits for it.
        if until >= end && long {
            all.push((step.at, Entry::Enter(index)));
        } else if client_did || meanwhile.into_iter().any(interrupts) {
            all.push((step.at, Entry::Enter(index)));
            all.push((until, Entry::Return(index)));
        } else {
            all.push((step.at, Entry::Whole(index)));
        }
    }
    let marks = client.iter().enumerate();
    all.extend(marks.map(|(index, (at, _))| (*at, Entry::Mark(index))));
    // Stable: what is of the same moment stays in the order of the trace.
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, entry)| entry).collect()
}

/// A key by which entries of a thread are alike.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key<'a> {
    Housekeeping(Pid),
    Call(Pid, &'a CallStep),
}

/// Writes lines.
#[derive(Debug)]
pub struct Writer<'a> {
    pub steps: &'a [Step],
    pub names: HashMap<Pid, String>,
    pub client: &'a [(Duration, String)],
    pub phases: Option<&'a Phases>,
}

impl Writer<'_> {
    /// Folds entries that are alike.
    pub fn pieces(&self, entries: &[Entry]) -> Vec<Piece> {
        let keys: Vec<_> = entries.iter().map(|m| self.key(*m)).collect();
        let mut pieces: Vec<Piece> = Vec::new();
        for piece in fold(&keys) {
            let key = keys[piece.range.start];
            let quiet = matches!(key, Some(Key::Housekeeping(_)));
            match pieces.last_mut() {
                Some(last) if quiet && keys[last.range.start] == key => {
                    last.range.end = piece.range.end;
                }
                _ => pieces.push(piece),
            }
        }
        pieces
    }

    /// None for what is like nothing else, such as a client's deed.
    fn key(&self, entry: Entry) -> Option<Key<'_>> {
        let Entry::Whole(index) = entry else { return None };
        let call = self.steps[index].call()?;
        if Some(index) == self.phases.map(|phases| phases.copier) {
            return None;
        }
        let tid = self.steps[index].tid;
        Some(match call.family {
            Family::Housekeeping => Key::Housekeeping(tid),
            _ => Key::Call(tid, call),
        })
    }

    pub fn write(
        &self,
        piece: &Piece,
        entries: &[Entry],
        lines: &mut Vec<Line>,
    ) {
        let entries = &entries[piece.range.clone()];
        let (Some(first), Some(last)) = (entries.first(), entries.last())
        else {
            return;
        };
        if let Some(line) = self.housekeeping(entries) {
            return lines.push(line);
        }
        if piece.rounds == 1 {
            return lines.extend(entries.iter().map(|m| self.line(*m)));
        }
        let time = self.end(*last).saturating_sub(self.line(*first).at);
        let period = entries.len() / piece.rounds;
        let many = count(piece.rounds as f64);
        let phases = entries.iter().map(|entry| self.line(*entry).phase);
        let phase = phases.flatten().next();
        for (place, entry) in entries[..period].iter().enumerate() {
            let mut line = self.line(*entry);
            line.phase = phase;
            line.text = format!("{many} × {}", line.text);
            line.spent = (place == 0).then_some(time);
            lines.push(line);
        }
    }

    /// Calls that are not about input or output, in one line.
    fn housekeeping(&self, entries: &[Entry]) -> Option<Line> {
        let calls: Option<Vec<_>> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Whole(index) => self.steps[*index].call(),
                _ => None,
            })
            .collect();
        let calls = calls?;
        if calls.iter().any(|it| it.family != Family::Housekeeping) {
            return None;
        }
        let mut names: Vec<_> = calls.iter().map(|call| call.name).collect();
        names.dedup();
        let more = if names.len() > 3 { ", …" } else { "" };
        names.truncate(3);
        let (first, last) = (*entries.first()?, *entries.last()?);
        let mut line = self.line(first);
        line.spent = Some(self.end(last).saturating_sub(line.at));
        line.text = format!("{}{more}", names.join(", "));
        Some(line)
    }

    fn end(&self, entry: Entry) -> Duration {
        match entry {
            Entry::Mark(index) => self.client[index].0,
            Entry::Enter(index) => self.steps[index].at,
            Entry::Whole(index) | Entry::Return(index) => {
                self.steps[index].until.unwrap_or(self.steps[index].at)
            }
        }
    }

    pub fn line(&self, entry: Entry) -> Line {
        let index = match entry {
            Entry::Mark(index) => {
                let (at, text) = self.client[index].clone();
                return Line::new(at, LineKind::Client, text);
            }
            Entry::Whole(index)
            | Entry::Enter(index)
            | Entry::Return(index) => index,
        };
        let step = &self.steps[index];
        let lasts = matches!(entry, Entry::Enter(_)) || step.until.is_none();
        let (kind, text) = match (&step.deed, entry) {
            (Deed::Call(call), Entry::Return(_)) => {
                let text = format!("… {} = {}", call.name, self.outcome(call));
                (LineKind::Call, text)
            }
            (Deed::Call(call), _) => {
                let text = format!("{}({})", call.name, call.in_brackets());
                let text = match lasts {
                    true => format!("{text} …"),
                    false => format!("{text} = {}", self.outcome(call)),
                };
                (LineKind::Call, text)
            }
            (deed, _) => (LineKind::Event, self.event(step, deed)),
        };
        let spent = step.until.map(|until| until.saturating_sub(step.at));
        let spent = spent.filter(|_| !lasts);
        let at = match entry {
            Entry::Return(_) => step.until.unwrap_or(step.at),
            _ => step.at,
        };
        let phase = self.phase(index, entry);
        let who = self.names.get(&step.tid).cloned().unwrap_or_default();
        Line { at, who, kind, text, spent, phase }
    }

    /// A result in words; a process or a thread by its name.
    fn outcome(&self, call: &CallStep) -> String {
        let id = call.result.and_then(|result| i32::try_from(result).ok());
        let id = id.filter(|_| call.family == Family::Process);
        let name = id.and_then(|id| self.names.get(&Pid::from_raw(id)));
        name.cloned().unwrap_or_else(|| call.outcome())
    }

    fn event(&self, step: &Step, deed: &Deed) -> String {
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

    /// Which phase an entry is in.
    fn phase(&self, index: usize, entry: Entry) -> Option<Phase> {
        let phases = self.phases?;
        let step = &self.steps[index];
        if index == phases.copier {
            let begins_before =
                matches!(entry, Entry::Enter(_)) && step.at < phases.waiting.1;
            return Some(match begins_before {
                true => Phase::Waiting,
                false => Phase::Copying,
            });
        }
        let at = match entry {
            Entry::Return(_) => step.until?,
            _ => step.at,
        };
        let in_time = (phases.waiting.0..phases.waiting.1).contains(&at);
        let begins = Some(index) == phases.waiter && step.at == at;
        (in_time || begins).then_some(Phase::Waiting)
    }

    /// A part of the trace that is not the scene.
    pub fn summary(&self, name: &str, steps: &[Step]) -> Line {
        let calls = steps.iter().filter(|step| step.call().is_some()).count();
        let at = steps.first().map_or(Duration::ZERO, |step| step.at);
        let last = steps.last().map(|step| step.at);
        let text = format!("{name}: {} calls", count(calls as f64));
        let spent = last.map(|last| last.saturating_sub(at));
        Line { spent, ..Line::new(at, LineKind::Call, text) }
    }
}
