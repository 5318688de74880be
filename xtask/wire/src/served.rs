//! Selects the server's calls that relate to packets from its trace.

use std::collections::HashMap;
use std::time::Duration;

use nix::unistd::Pid;
use trace::call::CallStep;
use trace::calls::Family;
use trace::event;
use trace::role::Role;
use trace::steps::{Deed, OperationStep, Step, threads};

use super::call::{Call, CallKind, Origin, now};
use super::packet::Side;

/// The number of consecutive EAGAINs from which a server is shown as polling.
const POLLING: usize = 3;

/// The time in which calls are shown, on the clock of packets.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The beginning of the client's first call.
    pub from: Duration,
    /// A time before the server's shutdown.
    pub to: Duration,
}

/// The difference between the clock of packets (CLOCK_REALTIME) and the clock
/// of traces (CLOCK_MONOTONIC).
#[derive(Clone, Copy, Debug)]
pub struct Offset(pub Duration);

impl Offset {
    /// Reads one clock between two readings of the other. Their distance bounds
    /// the error.
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

    fn of(self, at: Duration) -> Duration {
        at + self.0
    }
}

/// Returns the calls that send, receive or wait for packets, and the signals
/// and completions that report them, in the order in which they began.
pub fn calls(steps: &[Step], offset: Offset, window: Window) -> Vec<Call> {
    let mut reader = Reader {
        offset,
        window,
        leader: steps.first().map_or(Pid::from_raw(0), |step| step.pid),
        names: threads(steps).into_iter().skip(1).collect(),
        children: false,
        runs: HashMap::new(),
        calls: Vec::new(),
    };
    for step in steps {
        reader.take(step);
    }
    for (_, run) in std::mem::take(&mut reader.runs) {
        reader.add_run(run);
    }
    reader.calls.sort_by_key(|call| call.begun);
    reader.calls
}

struct Reader {
    offset: Offset,
    window: Window,
    leader: Pid,
    /// The names of all threads except the first.
    names: HashMap<Pid, String>,
    /// The server has started other processes.
    children: bool,
    /// For each thread, its latest consecutive calls that returned EAGAIN.
    runs: HashMap<Pid, Run>,
    calls: Vec<Call>,
}

/// Consecutive calls that returned EAGAIN.
struct Run {
    call: Call,
    what: Vec<String>,
    count: usize,
}

impl Reader {
    fn take(&mut self, step: &Step) {
        match &step.deed {
            Deed::Started(is_process) => self.children |= is_process,
            Deed::Call(call) if returns_eagain(call) => {
                self.add_eagain(step, call);
            }
            Deed::Call(call) => self.asked(step, call),
            Deed::Completed(done) if is_ours(&done.role) => {
                let name = format!("completed: {}", done.operation.name);
                let about = format!("({})", done.role);
                let result = done.outcome();
                let kind = completed(done);
                self.show(self.call(step, kind, (&name, &about), &result));
            }
            Deed::Signal(signal, Some(role)) if is_ours(role) => {
                let name = format!("signal {signal}: {role}");
                let kind = CallKind::Other;
                self.show(self.call(step, kind, (&name, ""), ""));
            }
            _ => {}
        }
    }

    fn asked(&mut self, step: &Step, call: &CallStep) {
        let ended = step.until.map(|at| self.offset.of(at));
        let waits = ended.is_none_or(|ended| ended > self.window.to);
        let is_childs = step.pid != self.leader;
        let Some(kind) = kind(call, is_childs, waits) else { return };
        let about = match call.family {
            // The timeout is omitted.
            Family::Readiness | Family::Signals => call.about(),
            _ => call.in_brackets(),
        };
        let text = (call.name, &*format!("({about})"));
        let mut shown = self.call(step, kind, text, &call.outcome());
        shown.ended = ended;
        if kind == CallKind::Close && !is_childs && self.children {
            shown.kind = CallKind::Other;
            shown.result += ", the child's copy stays open";
        }
        self.end_run(step.tid);
        self.show(shown);
    }

    /// Makes a call without duration. Steps other than calls come from the
    /// kernel, and may happen during a call of the thread.
    fn call(
        &self,
        step: &Step,
        kind: CallKind,
        (name, about): (&str, &str),
        result: &str,
    ) -> Call {
        let at = self.offset.of(step.at);
        let tid = step.tid.as_raw();
        let who = self.names.get(&step.tid);
        let who = who.map_or(String::new(), |who| format!("{who}: "));
        Call {
            side: Side::Server,
            origin: match &step.deed {
                Deed::Call(_) => Origin::Thread(tid),
                _ => Origin::Kernel(tid),
            },
            kind,
            name: format!("{who}{name}"),
            text: format!("{who}{name}{about}"),
            result: result.to_owned(),
            begun: at,
            ended: Some(at),
        }
    }

    fn add_eagain(&mut self, step: &Step, call: &CallStep) {
        let Some(role) = call.role() else { return };
        let what = format!("{}({role})", call.name);
        let error = call.error_name().unwrap_or_default();
        let first = self.call(step, CallKind::Other, ("", ""), &error);
        let run = self.runs.entry(step.tid).or_insert_with(|| Run {
            call: first,
            what: Vec::new(),
            count: 0,
        });
        run.call.ended = step.until.map(|at| self.offset.of(at));
        run.count += 1;
        if !run.what.contains(&what) {
            run.what.push(what);
        }
    }

    /// Ends the run of EAGAINs of a thread.
    fn end_run(&mut self, thread: Pid) {
        if let Some(run) = self.runs.remove(&thread) {
            self.add_run(run);
        }
    }

    /// Shows a run, unless it is short: one or two EAGAINs are normal for a
    /// thread that reads until the socket is drained.
    fn add_run(&mut self, run: Run) {
        if run.count >= POLLING {
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
        // A later return is caused by the shutdown.
        if call.ended.is_some_and(|ended| ended > to) {
            call.ended = None;
        }
        self.calls.push(call);
    }
}

/// Returns how a call relates to packets; None if it doesn't. The end of a
/// child process closes its stream.
fn kind(call: &CallStep, is_childs: bool, waits: bool) -> Option<CallKind> {
    let carries = call.is_about_client();
    let count = call.result.and_then(|result| usize::try_from(result).ok());
    match (call.family, call.name) {
        (Family::Accept, _) => {
            Some(count.map_or(CallKind::Other, |_| CallKind::Accept))
        }
        (Family::Receive, _) if carries => {
            Some(count.map_or(CallKind::Other, CallKind::Receive))
        }
        (Family::Send, _) if carries => {
            Some(count.map_or(CallKind::Other, CallKind::Send))
        }
        (Family::Close, "shutdown") if carries => Some(CallKind::Shutdown),
        (Family::Close, _) if carries => Some(CallKind::Close),
        (Family::Process, "exit_group") if is_childs => Some(CallKind::Close),
        (Family::Ring, _) => Some(submitted(call)),
        (Family::Signals, _) if waits || count.is_some() => {
            Some(CallKind::Other)
        }
        (Family::Readiness, _) => {
            let answers = call.answers().any(is_ours);
            // A signal, which is shown too, has interrupted the call.
            let interrupted = call.fails_with(libc::EINTR);
            (answers || waits || interrupted).then_some(CallKind::Other)
        }
        _ => None,
    }
}

/// Returns the kind of a call that submits operations to io_uring, which start
/// before the call returns.
fn submitted(call: &CallStep) -> CallKind {
    let kinds = call.submitted.iter().map(|it| match it.operation.family {
        Family::Send => CallKind::Send(0),
        Family::Close => CallKind::Close,
        _ => CallKind::Other,
    });
    let mut kinds = kinds.filter(|kind| *kind != CallKind::Other);
    kinds.next().unwrap_or(CallKind::Other)
}

fn completed(done: &OperationStep) -> CallKind {
    match (done.operation.family, usize::try_from(done.result)) {
        (Family::Accept, Ok(_)) => CallKind::Accept,
        (Family::Receive, Ok(count)) => CallKind::Receive(count),
        _ => CallKind::Other,
    }
}

fn returns_eagain(call: &CallStep) -> bool {
    let asks = matches!(call.family, Family::Accept | Family::Receive);
    let ours = call.role().is_some_and(is_ours);
    asks && ours && call.fails_with(libc::EAGAIN)
}

fn is_ours(role: &Role) -> bool {
    role.carries_requests() || matches!(role, Role::Listener(_))
}
