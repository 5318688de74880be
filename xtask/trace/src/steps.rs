//! Events, put together into what happened: each call with its end, in words.

use std::collections::HashMap;
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::Pid;

use super::decode::{Family, View, family};
use super::event::{
    Call, Completion, Event, Outcome, Signal, Submission, What,
};
use super::names;
use super::roles::{Role, Roles};
use super::values::{data, signals_in};

/// Something that a thread did, or that was done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: Duration,
    /// When a call returned; None where it never did. Other things have no
    /// length.
    pub until: Option<Duration>,
    pub pid: Pid,
    pub tid: Pid,
    pub deed: Deed,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Call(CallStep),
    /// The kernel has completed an operation for io_uring.
    Completed(Done),
    /// A signal interrupts the thread, or a call has fetched it. The role is
    /// the descriptor's that it tells of.
    Signal(Signal, Option<Role>),
    /// The thread or process begins; true for a process.
    Started(bool),
    Executed,
    Ended(ExitStatus),
}

/// A system call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStep {
    pub name: &'static str,
    pub family: Family,
    /// The descriptors that it was called with: one for most calls; all that
    /// are asked for where it is about many.
    pub roles: Vec<Role>,
    pub arguments: String,
    /// Of a call, or an operation handed over, that accepts: SOCK_NONBLOCK,
    /// SOCK_CLOEXEC.
    pub accept_flags: Option<u64>,
    /// As the kernel returns it: an errno is negative. None: it never did.
    pub result: Option<i64>,
    pub outcome: String,
    /// The descriptors that are ready, or new.
    pub answers: Vec<Role>,
    /// What io_uring_enter handed over: operations, and their descriptors.
    pub submitted: Vec<(&'static str, Role)>,
}

/// A completed operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub operation: &'static str,
    pub role: Role,
    pub result: i32,
    /// How much data it has brought; 0 for those that receive none.
    pub bytes: u32,
    pub outcome: String,
    /// There will be more of the same.
    pub more: bool,
    /// It was completed between the entry and the return of an
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
}

impl CallStep {
    /// The descriptor that the call is about, where it is about one.
    pub fn role(&self) -> Option<&Role> {
        self.roles.first()
    }
}

/// All steps of a trace, in the order in which they began.
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
    /// Each thread's call that has not returned: its step, and itself.
    open: HashMap<Pid, (usize, Call)>,
}

impl Maker {
    fn take(&mut self, event: &Event) {
        self.roles.happened(event.pid, &event.what);
        match &event.what {
            What::Enter(call) => self.enter(event, call),
            What::Exit(outcome) => self.exit(event, outcome),
            What::Submitted(submission) => self.submit(event, submission),
            What::Completed(completion) => self.complete(event, completion),
            What::Signal(signal) => self.signal(event, *signal),
            What::Started { by } => {
                self.push(event, Deed::Started(*by != event.pid));
            }
            What::Executed => self.push(event, Deed::Executed),
            What::Ended(status) => {
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
        let told = view.arguments(call);
        self.open.insert(event.tid, (self.steps.len(), call.clone()));
        let call = CallStep {
            name: if call.name.is_empty() { "unknown" } else { call.name },
            family: family(call.name),
            roles: told.roles,
            arguments: told.text,
            accept_flags: match call.name {
                "accept" => Some(0),
                "accept4" => Some(call.arguments[3]),
                _ => None,
            },
            result: None,
            outcome: String::new(),
            answers: Vec::new(),
            submitted: Vec::new(),
        };
        self.push(event, Deed::Call(call));
    }

    fn exit(&mut self, event: &Event, outcome: &Outcome) {
        let Some((index, call)) = self.open.remove(&event.tid) else { return };
        if outcome.result >= 0 {
            self.roles.called(
                event.pid,
                call.name,
                &call.arguments,
                outcome.result,
                (&call.memory, &outcome.memory),
            );
        }
        let view = View { roles: &self.roles, pid: event.pid };
        let told = view.outcome(&call, outcome);
        let step = &mut self.steps[index];
        step.until = Some(event.at);
        if let Deed::Call(step) = &mut step.deed {
            step.result = Some(outcome.result);
            step.outcome = told.text;
            step.answers = told.roles;
        }
        self.fetched(event, &call, outcome);
    }

    /// Signals that are not delivered but fetched.
    fn fetched(&mut self, event: &Event, call: &Call, outcome: &Outcome) {
        let from = self.roles.of(event.pid, call.arguments[0] as i32);
        let bytes = outcome.memory.of(1);
        match call.name {
            "read" if matches!(from, Role::Signals(_)) => {
                for signal in signals_in(bytes) {
                    self.signal(event, signal);
                }
            }
            "rt_sigtimedwait" if outcome.result > 0 => {
                if let Some(signal) = Signal::parse(bytes) {
                    self.signal(event, signal);
                }
            }
            _ => {}
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
        call.arguments += match call.submitted.len() {
            0 => ": ",
            _ => ", ",
        };
        call.arguments += &match submission.operation {
            name @ ("send" | "sendmsg") => {
                let length = submission.data.len() as u64;
                format!("{name}({role}, {})", data(&submission.data, length))
            }
            name @ "async_cancel" => name.to_owned(),
            name => format!("{name}({role})"),
        };
        if submission.operation == "accept" {
            call.accept_flags = Some(submission.flags.into());
        }
        call.submitted.push((submission.operation, role));
    }

    fn complete(&mut self, event: &Event, completion: &Completion) {
        let Completion { operation, fd, result, more, .. } = *completion;
        let role = self.roles.of(event.pid, fd);
        let count = u64::from(result.max(0).cast_unsigned());
        let count = count.saturating_sub(completion.header);
        let outcome = match operation {
            _ if result < 0 => names::errno(result.into()),
            "accept" => self.roles.accepted(event.pid, result).to_string(),
            "recv" if count == 0 => "0, end of file".to_owned(),
            "recv" | "recvmsg" => {
                format!("{count} {}", data(&completion.data, count))
            }
            "poll_add" => names::poll_events(u64::from(result.cast_unsigned())),
            _ => result.to_string(),
        };
        let bytes = match operation {
            "recv" | "recvmsg" => u32::try_from(count).unwrap_or(0),
            _ => 0,
        };
        let open = self.open.get(&event.tid);
        let inside = open.is_some_and(|(_, call)| call.name == ENTER);
        let done =
            Done { operation, role, result, bytes, outcome, more, inside };
        self.push(event, Deed::Completed(done));
    }
}

const ENTER: &str = "io_uring_enter";

/// Whether the kernel copies for io_uring inside io_uring_enter(2) only, on the
/// thread that calls it (IORING_SETUP_DEFER_TASKRUN).
pub fn defers_copies(steps: &[Step]) -> bool {
    let calls = steps.iter().filter_map(Step::call);
    let mut setups = calls.filter(|call| {
        call.name == "io_uring_setup" && call.result.is_some_and(|fd| fd >= 0)
    });
    setups.any(|call| call.arguments.contains("IORING_SETUP_DEFER_TASKRUN"))
}

/// Whether a signal interrupts its thread. Other signals are fetched by a call,
/// at whose return they are seen.
pub fn is_delivered(steps: &[Step], signal: &Step) -> bool {
    let is_signal = matches!(signal.deed, Deed::Signal(..));
    is_signal && fetches(steps, signal).is_none()
}

/// The call that has fetched a signal.
pub fn fetches<'a>(steps: &'a [Step], signal: &Step) -> Option<&'a CallStep> {
    let ends =
        |step: &&Step| step.tid == signal.tid && step.until == Some(signal.at);
    steps.iter().filter(ends).find_map(Step::call)
}

/// All threads in the order of their appearance. The first is `main`.
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
