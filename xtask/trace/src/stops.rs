//! The tracer's work at each stop of a tracee: it records what happened, and
//! resumes the thread.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::{fs, ptr};

use anyhow::anyhow;
use lab::Unsupported;
use lab::process::Process;
use nix::errno::Errno;
use nix::sys::{ptrace, signal};
use nix::unistd::Pid;
use syscalls::Sysno;

use super::calls::{self, Effect, Family};
use super::event::{Call, Event, EventKind, Outcome, Signal, now};
use super::memory;
use super::ring::Ring;
use super::tally::Calls;

/// The most events that are kept. At more the command is killed, and `stop`
/// fails. A thread that does nothing but system calls makes them in a minute.
pub const EVENTS: usize = 1_000_000;

/// The state of the tracer.
#[derive(Debug, Default)]
pub struct State {
    pub events: Vec<Event>,
    /// Every living thread that is traced.
    pub tasks: HashMap<Pid, Task>,
    /// Threads that were seen before the event of their start, which is still
    /// to come; they may have ended meanwhile.
    early: HashSet<Pid>,
    /// Rings by process and descriptor.
    rings: HashMap<(Pid, u64), Ring>,
    /// Set if calls are counted and no events kept.
    pub counted: Option<Calls>,
    pub status: Option<ExitStatus>,
    pub failure: Option<anyhow::Error>,
    /// True once all are being killed, including those that start meanwhile.
    ending: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub pid: Pid,
    /// The call that it is in.
    pub entered: Option<(&'static str, [u64; 6])>,
}

impl State {
    pub fn kill_all(&mut self) {
        self.ending = true;
        for task in self.tasks.values() {
            let _ = signal::kill(task.pid, signal::Signal::SIGKILL);
        }
    }

    /// Returns whether every thread sleeps in a call. The caller holds the
    /// state, so no stop is handled meanwhile. A thread that could still wake
    /// another one would not be asleep itself.
    pub fn rests(&self) -> bool {
        self.tasks.iter().all(|(tid, task)| {
            let state = Process::read(*tid).map(|process| process.state);
            task.entered.is_some() && state == Some('S')
        })
    }

    fn push(&mut self, tid: Pid, pid: Pid, what: EventKind) {
        if self.counted.is_some() {
            return;
        }
        if self.events.len() < EVENTS {
            self.events.push(Event { at: now(), pid, tid, what });
        } else {
            self.fail(anyhow!(
                "it made more system calls than a trace holds ({EVENTS} events)"
            ));
        }
    }

    /// Ends the trace. The first failure is the one that is returned.
    pub fn fail(&mut self, failure: anyhow::Error) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            self.kill_all();
        }
    }

    /// Adds a new thread.
    fn started(&mut self, tid: Pid, pid: Pid, by: Pid) {
        if self.ending {
            let _ = signal::kill(pid, signal::Signal::SIGKILL);
        }
        self.tasks.insert(tid, Task { pid, entered: None });
        self.push(tid, pid, EventKind::Started { by });
    }
}

/// Records what stopped a thread, and resumes it.
pub fn handle(tid: Pid, status: i32, leader: Pid, state: &mut State) {
    if !libc::WIFSTOPPED(status) {
        return ended(tid, ExitStatus::from_raw(status), leader, state);
    }
    let pid = known(tid, state);
    let signal = libc::WSTOPSIG(status);
    let event = status >> 16;
    let (request, passed_on) = match (event, signal) {
        (0, SYSCALL_STOP) => {
            system_call(tid, pid, state);
            (libc::PTRACE_SYSCALL, 0)
        }
        (0, signal) => {
            if let Some(signal) = pending_signal(tid) {
                state.push(tid, pid, EventKind::Signal(signal));
            }
            (libc::PTRACE_SYSCALL, signal)
        }
        // The whole process is stopped, and stays so until SIGCONT.
        (
            libc::PTRACE_EVENT_STOP,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU,
        ) => (libc::PTRACE_LISTEN, 0),
        (libc::PTRACE_EVENT_EXEC, _) => {
            executed(tid, state);
            (libc::PTRACE_SYSCALL, 0)
        }
        (
            libc::PTRACE_EVENT_CLONE
            | libc::PTRACE_EVENT_FORK
            | libc::PTRACE_EVENT_VFORK,
            _,
        ) => {
            if let Ok(new) = ptrace::getevent(tid) {
                let new = Pid::from_raw(new as i32);
                if !state.early.remove(&new) {
                    state.started(new, process_of(new).unwrap_or(new), pid);
                }
            }
            (libc::PTRACE_SYSCALL, 0)
        }
        _ => (libc::PTRACE_SYSCALL, 0),
    };
    resume(request, tid, passed_on);
}

/// The signal of a stop at a system call, with PTRACE_O_TRACESYSGOOD.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// Returns the process of a thread. A thread that runs before its parent's
/// event was seen is added here.
fn known(tid: Pid, state: &mut State) -> Pid {
    if let Some(task) = state.tasks.get(&tid) {
        return task.pid;
    }
    let pid = process_of(tid).unwrap_or(tid);
    let by =
        if pid == tid { in_status(tid, "PPid:").unwrap_or(pid) } else { pid };
    state.early.insert(tid);
    state.started(tid, pid, by);
    pid
}

fn ended(tid: Pid, status: ExitStatus, leader: Pid, state: &mut State) {
    if let Some(task) = state.tasks.remove(&tid) {
        state.push(tid, task.pid, EventKind::Ended(status));
    }
    if tid == leader {
        state.status = Some(status);
    }
}

/// Handles execve(2): the process now has one thread, with the process's ID.
fn executed(pid: Pid, state: &mut State) {
    let by = ptrace::getevent(pid).map_or(pid, |tid| Pid::from_raw(tid as i32));
    let entered = state.tasks.get(&by).and_then(|task| task.entered);
    state.tasks.retain(|_, task| task.pid != pid);
    state.tasks.insert(pid, Task { pid, entered });
    state.push(pid, pid, EventKind::Executed);
}

fn system_call(tid: Pid, pid: Pid, state: &mut State) {
    let info = match ptrace::syscall_info(tid) {
        Ok(info) => info,
        // The thread was killed while it was stopped.
        Err(Errno::ESRCH) => return,
        Err(errno) => {
            return state.fail(anyhow!(Unsupported::Tool(format!(
                "PTRACE_GET_SYSCALL_INFO fails ({errno}): tracing requires \
                 Linux 5.3 or later"
            ))));
        }
    };
    match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: according to `op`, this is the member that is filled.
            let entry = unsafe { info.u.entry };
            entered(tid, pid, entry.nr, entry.args, state);
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => {
            // SAFETY: as above.
            let exit = unsafe { info.u.exit };
            left(tid, pid, exit.sval, state);
        }
        _ => {}
    }
}

fn entered(
    tid: Pid,
    pid: Pid,
    number: u64,
    arguments: [u64; 6],
    state: &mut State,
) {
    let sysno = usize::try_from(number).ok().and_then(Sysno::new);
    let name = sysno.map_or("", |number| number.name());
    if let Some(task) = state.tasks.get_mut(&tid) {
        task.entered = Some((name, arguments));
    }
    if let Some(calls) = &mut state.counted {
        // Counted here, not at the end, so that a call in progress counts.
        calls.entry(name).or_default().made += 1;
        return;
    }
    let spec = calls::of(name);
    let memory = memory::entering(tid, &spec, &arguments);
    let call = Call { name, arguments, memory };
    let enters_ring = spec.family == Family::Ring;
    if enters_ring {
        // Completed before the call, so the event comes before the call's.
        look_at_ring(tid, pid, arguments[0], state);
    }
    state.push(tid, pid, EventKind::Enter(call));
    let ring = state.rings.get_mut(&(pid, arguments[0]));
    let ring = ring.filter(|_| enters_ring);
    let submitted = ring.map_or_else(Vec::new, |ring| ring.submitted(tid));
    for submission in submitted {
        state.push(tid, pid, EventKind::Submitted(submission));
    }
}

fn left(tid: Pid, pid: Pid, result: i64, state: &mut State) {
    let task = state.tasks.get_mut(&tid);
    // The return from the call that made this thread is not its own.
    let Some((name, arguments)) = task.and_then(|task| task.entered.take())
    else {
        return;
    };
    if let Some(calls) = &mut state.counted {
        if result == -i64::from(libc::EAGAIN) {
            calls.entry(name).or_default().empty += 1;
        }
        return;
    }
    let spec = calls::of(name);
    let memory = memory::leaving(tid, &spec, &arguments, result);
    let outcome = Outcome { result, memory };
    follow_rings(tid, pid, name, &arguments, &outcome, state);
    if spec.family == Family::Ring {
        look_at_ring(tid, pid, arguments[0], state);
    }
    state.push(tid, pid, EventKind::Exit(outcome));
}

/// Handles calls that set up rings, and that map their memory.
fn follow_rings(
    tid: Pid,
    pid: Pid,
    name: &'static str,
    arguments: &[u64; 6],
    outcome: &Outcome,
    state: &mut State,
) {
    let Ok(result) = u64::try_from(outcome.result) else { return };
    let rings = &mut state.rings;
    match calls::of(name).effect {
        Effect::SetsUpRing => {
            rings.insert((pid, result), Ring::new(outcome.memory.of(1)));
        }
        Effect::Maps => {
            if let Some(ring) = rings.get_mut(&(pid, arguments[4])) {
                ring.mapped(arguments[5], result);
            }
        }
        Effect::EquipsRing => {
            if let Some(ring) = rings.get_mut(&(pid, arguments[0])) {
                ring.registered(tid, arguments[1], arguments[2]);
            }
        }
        Effect::Closes => drop(rings.remove(&(pid, arguments[0]))),
        _ => {}
    }
}

fn look_at_ring(tid: Pid, pid: Pid, descriptor: u64, state: &mut State) {
    if let Some(ring) = state.rings.get_mut(&(pid, descriptor)) {
        for completion in ring.completed(tid) {
            state.push(tid, pid, EventKind::Completed(completion));
        }
    }
}

fn pending_signal(tid: Pid) -> Option<Signal> {
    let info = ptrace::getsiginfo(tid).ok()?;
    let length = size_of_val(&info);
    // SAFETY: the kernel has filled the whole struct.
    let bytes =
        unsafe { std::slice::from_raw_parts((&raw const info).cast(), length) };
    Signal::parse(bytes)
}

/// Resumes a thread, with a signal or without (0). A thread that was killed
/// meanwhile no longer exists (ESRCH); its end is seen next.
pub fn resume(request: libc::c_uint, tid: Pid, signal: i32) {
    // SAFETY: neither of these requests uses an address.
    unsafe {
        libc::ptrace(
            request,
            tid.as_raw(),
            ptr::null_mut::<libc::c_void>(),
            signal as usize as *mut libc::c_void,
        );
    }
}

/// Returns the process of a thread that is not reaped yet.
fn process_of(tid: Pid) -> Option<Pid> {
    in_status(tid, "Tgid:")
}

fn in_status(tid: Pid, field: &str) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(Pid::from_raw(line.trim().parse().ok()?))
}
