//! The server's calls out of its trace: those that have to do with packets.

use std::collections::HashMap;
use std::time::Duration;

use nix::unistd::Pid;

use super::call::{Call, Kind, now};
use super::packet::Side;
use crate::trace::call::CallStep;
use crate::trace::calls::Family;
use crate::trace::event;
use crate::trace::role::Role;
use crate::trace::steps::{Deed, Done, Step};

/// From this many EAGAINs in a row on, a server is drawn as one that polls.
const IN_VAIN: usize = 3;

/// What processes that the server starts are called.
const CHILD: &str = "child";

/// When something is of interest, on the clock of packets.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The client's first call.
    pub from: Duration,
    /// The server has not been stopped yet.
    pub to: Duration,
}

/// The clock of traces is CLOCK_MONOTONIC, that of packets CLOCK_REALTIME:
/// by how much they differ.
#[derive(Clone, Copy, Debug)]
pub struct Offset(Duration);

impl Offset {
    /// Asked in between, and so exact to the time that this takes.
    pub fn measure() -> Self {
        let measured = (0..5).map(|_| {
            let before = event::now();
            let real = now();
            let after = event::now();
            (after - before, real.saturating_sub((before + after) / 2))
        });
        let best = measured.min_by_key(|(uncertain, _)| *uncertain);
        Self(best.map_or(Duration::ZERO, |(_, offset)| offset))
    }

    /// Of clocks that are the same.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Duration::ZERO)
    }

    fn of(self, at: Duration) -> Duration {
        at + self.0
    }
}

/// Calls that send, take or wait for packets, and what tells of them, in the
/// order in which they began.
pub fn calls(steps: &[Step], offset: Offset, window: Window) -> Vec<Call> {
    let mut reader = Reader {
        offset,
        window,
        leader: steps.first().map_or(Pid::from_raw(0), |step| step.pid),
        names: HashMap::new(),
        vain: HashMap::new(),
        calls: Vec::new(),
    };
    for step in steps {
        reader.take(step);
    }
    for (_, run) in std::mem::take(&mut reader.vain) {
        reader.tell(run);
    }
    reader.calls.sort_by_key(|call| call.begun);
    reader.calls
}

struct Reader {
    offset: Offset,
    window: Window,
    leader: Pid,
    /// What children and threads are called.
    names: HashMap<Pid, String>,
    /// What each thread polls, while that returns EAGAIN.
    vain: HashMap<Pid, Vain>,
    calls: Vec<Call>,
}

/// Calls in a row that found nothing.
struct Vain {
    call: Call,
    what: Vec<String>,
    count: usize,
}

impl Reader {
    fn take(&mut self, step: &Step) {
        match &step.deed {
            Deed::Started(is_process) => self.introduce(step, *is_process),
            Deed::Call(call) if is_in_vain(call) => self.vain(step, call),
            Deed::Call(call) => self.asked(step, call),
            Deed::Completed(done) if is_ours(&done.role) => {
                let text = format!(
                    "completed: {}({})",
                    done.operation.name, done.role
                );
                let call =
                    self.call(step, completed(done), text, &done.outcome());
                self.show(call);
            }
            Deed::Signal(signal, Some(role)) if is_ours(role) => {
                let text = format!("signal {signal}: {role}");
                let call = self.call(step, Kind::Other, text, "");
                self.show(call);
            }
            _ => {}
        }
    }

    fn asked(&mut self, step: &Step, call: &CallStep) {
        let ended = step.until.map(|at| self.offset.of(at));
        let waits = ended.is_none_or(|ended| ended > self.window.to);
        let is_childs = step.pid != self.leader;
        let Some(kind) = kind(call, is_childs, waits) else { return };
        let what = match call.family {
            // How long it would wait is not what is shown.
            Family::Readiness | Family::Signals => call.about(),
            _ => call.in_brackets(),
        };
        let text = format!("{}({what})", call.name);
        let mut shown = self.call(step, kind, text, &call.outcome());
        shown.ended = ended;
        let has_children = self.names.values().any(|name| is_child(name));
        if kind == Kind::Close && !is_childs && has_children {
            shown.kind = Kind::Other;
            shown.result += ", the child has a copy";
        }
        self.came_of_it(step.tid);
        self.show(shown);
    }

    /// All but the first thread of the first process have names.
    fn introduce(&mut self, step: &Step, is_process: bool) {
        let same = |name: &&String| is_child(name) == is_process;
        let number = self.names.values().filter(same).count() + 1;
        let name = match is_process {
            true => format!("{CHILD} {number}: "),
            false => format!("thread {number}: "),
        };
        if step.tid != self.leader {
            self.names.insert(step.tid, name);
        }
    }

    /// Something that takes no time: a thread of its own, as it may happen
    /// within one of the thread's calls.
    fn call(
        &self,
        step: &Step,
        kind: Kind,
        text: String,
        result: &str,
    ) -> Call {
        let at = self.offset.of(step.at);
        let is_call = matches!(step.deed, Deed::Call(_));
        let thread = step.tid.as_raw().cast_unsigned() << 1;
        let name = self.names.get(&step.tid).map_or("", String::as_str);
        Call {
            side: Side::Server,
            thread: thread | u32::from(!is_call),
            kind,
            name: format!("{name}{}", text.split('(').next().unwrap_or(&text)),
            text: format!("{name}{text}"),
            result: result.to_owned(),
            begun: at,
            ended: Some(at),
        }
    }

    fn vain(&mut self, step: &Step, call: &CallStep) {
        let Some(role) = call.role() else { return };
        let what = format!("{}({role})", call.name);
        let ended = step.until.map(|at| self.offset.of(at));
        let errno = call.error_name().unwrap_or_default();
        let first = self.call(step, Kind::Other, String::new(), &errno);
        let run = self.vain.entry(step.tid).or_insert_with(|| Vain {
            call: first,
            what: Vec::new(),
            count: 0,
        });
        run.call.ended = ended;
        run.count += 1;
        if !run.what.contains(&what) {
            run.what.push(what);
        }
    }

    fn came_of_it(&mut self, thread: Pid) {
        if let Some(run) = self.vain.remove(&thread) {
            self.tell(run);
        }
    }

    /// One or two EAGAINs are how a thread learns that it has read all.
    fn tell(&mut self, run: Vain) {
        if run.count >= IN_VAIN {
            let text = run.call.text.clone() + &run.what.join(", ");
            let result = format!("{}, {} times", run.call.result, run.count);
            self.show(Call { name: text.clone(), text, result, ..run.call });
        }
    }

    fn show(&mut self, mut call: Call) {
        let Window { from, to } = self.window;
        if call.begun > to || call.ended.is_some_and(|ended| ended < from) {
            return;
        }
        // What ends it later is the stop.
        if call.ended.is_some_and(|ended| ended > to) {
            call.ended = None;
        }
        self.calls.push(call);
    }
}

/// What a call has to do with packets; None if nothing. At its end, a child's
/// stream is closed.
fn kind(call: &CallStep, is_childs: bool, waits: bool) -> Option<Kind> {
    let carries = call.is_about_client();
    let count = call.result.and_then(|result| usize::try_from(result).ok());
    match (call.family, call.name) {
        (Family::Accept, _) => {
            Some(count.map_or(Kind::Other, |_| Kind::Accept))
        }
        (Family::Receive, _) if carries => {
            Some(count.map_or(Kind::Other, Kind::Receive))
        }
        (Family::Send, _) if carries => {
            Some(count.map_or(Kind::Other, Kind::Send))
        }
        (Family::Close, "shutdown") if carries => Some(Kind::Shutdown),
        (Family::Close, _) if carries => Some(Kind::Close),
        (Family::Process, "exit_group") if is_childs => Some(Kind::Close),
        (Family::Ring, _) => Some(submitted(call)),
        (Family::Signals, _) if waits || count.is_some() => Some(Kind::Other),
        (Family::Readiness, _) => {
            let answers = call.answers().any(is_ours);
            // By a signal, which is shown too.
            let interrupted = call.fails_with(libc::EINTR);
            (answers || waits || interrupted).then_some(Kind::Other)
        }
        _ => None,
    }
}

/// What is handed over to io_uring is on its way before the call returns.
fn submitted(call: &CallStep) -> Kind {
    let kinds = call.submitted.iter().map(|it| match it.operation.family {
        Family::Send => Kind::Send(0),
        Family::Close => Kind::Close,
        _ => Kind::Other,
    });
    let mut kinds = kinds.filter(|kind| *kind != Kind::Other);
    kinds.next().unwrap_or(Kind::Other)
}

fn completed(done: &Done) -> Kind {
    match (done.operation.family, usize::try_from(done.result)) {
        (Family::Accept, Ok(_)) => Kind::Accept,
        (Family::Receive, Ok(count)) => Kind::Receive(count),
        _ => Kind::Other,
    }
}

fn is_in_vain(call: &CallStep) -> bool {
    let asks = matches!(call.family, Family::Accept | Family::Receive);
    let ours = call.role().is_some_and(is_ours);
    asks && ours && call.fails_with(libc::EAGAIN)
}

fn is_child(name: &str) -> bool {
    name.starts_with(CHILD)
}

fn is_ours(role: &Role) -> bool {
    role.carries_requests() || matches!(role, Role::Listener(_))
}
