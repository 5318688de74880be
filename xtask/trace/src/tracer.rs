//! Runs a command under ptrace(2), with all its processes and threads, and
//! records what they do as a list of events.
//!
//! The tracer is a thread of its own, because only the thread that attached may
//! wait for a tracee and resume it. It waits for its own tracees only
//! (`__WNOTHREAD`), so other threads may have children. The reverse does not
//! hold: if another thread called wait(2) for any child, it would take stops
//! away from the tracer. When the tracer ends, for whatever reason, the kernel
//! kills all tracees (PTRACE_O_EXITKILL).

use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lab::server::words;
use lab::{Unsupported, process};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal;
use nix::unistd::Pid;

use super::event::Event;
use super::stops::{State, Task, handle, resume};
use super::tally::Calls;

/// The longest time that a command may take to exit when requested.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command under a tracer. Dropping it kills the command.
#[derive(Debug)]
pub struct Tracee {
    /// The command, as one would type it.
    title: String,
    pid: Pid,
    stdout: Option<ChildStdout>,
    state: Arc<Mutex<State>>,
    tracer: JoinHandle<()>,
}

/// All that was seen of a command, from its first call to its end.
#[derive(Debug)]
pub struct Trace {
    pub events: Vec<Event>,
    pub status: ExitStatus,
}

impl Tracee {
    /// Starts a command and traces it from its first instruction. It must have
    /// a process group of its own, see [`lab::server::tie`]. Fails with
    /// [`Unsupported`] if the machine forbids tracing.
    pub fn start(mut command: Command) -> Result<Self> {
        let title = words(&command);
        let (ours, theirs) = UnixStream::pair().context("socketpair")?;
        let meeting = theirs.as_raw_fd();
        // SAFETY: between fork and exec, only system calls on memory of the
        // stack and on a descriptor that `theirs` keeps open.
        unsafe { command.pre_exec(move || meet_tracer(meeting)) };
        let state = Arc::new(Mutex::new(State::default()));
        let tracer = thread::Builder::new().name("tracer".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || trace(ours, &state)
        });
        let tracer = tracer.context("cannot start a thread")?;
        let child = command.spawn();
        // If there is no child, this ends the tracer's wait for one.
        drop(theirs);
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                let _ = tracer.join();
                let failure = lock(&state).failure.take();
                return Err(failure.unwrap_or_else(|| error.into()))
                    .with_context(|| format!("cannot start {title}"));
            }
        };
        Ok(Self {
            title,
            pid: lab::server::pid(&child),
            stdout: child.stdout.take(),
            state,
            tracer,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns the command's first process, which leads its group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the command's output, if it was piped and has not been taken.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Counts calls from here on and keeps no events: a load makes too many of
    /// them to keep.
    pub fn count(&self) {
        let mut state = self.state();
        state.counted = Some(Calls::new());
        state.events = Vec::new();
    }

    /// Returns the calls that were made since `count`.
    pub fn calls(&self) -> Calls {
        self.state().counted.clone().unwrap_or_default()
    }

    /// Calls a function with what has been recorded so far.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    /// Requests the command to exit (SIGTERM), kills it if that does not help,
    /// and returns the trace. Fails if the command had exited by itself.
    pub fn stop(self) -> Result<Trace> {
        let ended = self.state().status;
        if let Some(status) = ended {
            self.end();
            let failure = self.state().failure.take();
            return Err(failure.unwrap_or_else(|| {
                anyhow!("{} ended while it was traced: {status}", self.title)
            }));
        }
        let _ = signal::kill(self.pid, signal::Signal::SIGTERM);
        self.wait()
    }

    /// Waits for a command that exits by itself, with any status.
    pub fn wait(self) -> Result<Trace> {
        let ended = process::poll_until("its end", PATIENCE, || {
            Ok(self.tracer.is_finished())
        });
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure).context(self.title.clone());
        }
        ended.with_context(|| self.title.clone())?;
        let events = mem::take(&mut state.events);
        let status = state.status.context("no exit status was seen")?;
        Ok(Trace { events, status })
    }

    /// Kills what is left and waits until the tracer has seen it end.
    fn end(&self) {
        while !self.tracer.is_finished() {
            self.state().kill_all();
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs in the child, before exec: sends its ID and waits until it is traced.
fn meet_tracer(meeting: RawFd) -> io::Result<()> {
    let pid = std::process::id().to_ne_bytes();
    // SAFETY: `pid` has this length, and is on the stack.
    let sent = unsafe { libc::write(meeting, pid.as_ptr().cast(), pid.len()) };
    let mut refused = 1u8;
    // SAFETY: one byte on the stack.
    let received = unsafe { libc::read(meeting, (&raw mut refused).cast(), 1) };
    match (sent, received, refused) {
        (4, 1, 0) => Ok(()),
        _ => Err(Errno::EPERM.into()),
    }
}

/// Runs the tracer's thread, until the end of the last tracee.
fn trace(meeting: UnixStream, state: &Mutex<State>) {
    // No signal is blocked here. The kernel sends SIGCHLD at every stop, which
    // is ignored. If this thread blocked SIGCHLD, it would be kept for another
    // thread and interrupt that one's calls.
    let traced = attach(meeting, state).and_then(|leader| {
        let Some(leader) = leader else { return Ok(()) };
        while let Some((tid, status)) = next_stop()? {
            handle(tid, status, leader, &mut lock(state));
        }
        Ok(())
    });
    if let Err(failure) = traced {
        lock(state).fail(failure);
    }
}

/// Seizes the child before its exec. Returns None if there is no child.
fn attach(
    mut meeting: UnixStream,
    state: &Mutex<State>,
) -> Result<Option<Pid>> {
    let mut pid = [0; 4];
    if meeting.read_exact(&mut pid).is_err() {
        return Ok(None);
    }
    let pid = Pid::from_raw(i32::from_ne_bytes(pid));
    let options = Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK;
    let seized = ptrace::seize(pid, options);
    if seized.is_ok() {
        lock(state).tasks.insert(pid, Task { pid, entered: None });
    }
    meeting.write_all(&[u8::from(seized.is_err())]).context("the child")?;
    match seized {
        Ok(()) => wait_for_exec(pid, state),
        Err(errno) => bail!(Unsupported::Tool(format!(
            "ptrace(2) is denied here ({errno}): a container's seccomp filter \
             or kernel.yama.ptrace_scope may forbid it, or another \
             tracer (strace, a debugger) is attached"
        ))),
    }
}

/// Waits for the child's exec. If exec fails, std reaps the child, so its end
/// is not consumed here (WNOWAIT).
fn wait_for_exec(pid: Pid, state: &Mutex<State>) -> Result<Option<Pid>> {
    loop {
        // SAFETY: `siginfo_t` is plain data, for which all zeros are valid.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let id = pid.as_raw().cast_unsigned();
        let flags = libc::WEXITED
            | libc::WSTOPPED
            | libc::WNOWAIT
            | libc::__WALL
            | libc::__WNOTHREAD;
        // SAFETY: `info` outlives the call.
        let waited =
            unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags) };
        match Errno::result(waited) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => return Ok(None),
            result => result.context("waitid")?,
        };
        if info.si_code != libc::CLD_TRAPPED
            && info.si_code != libc::CLD_STOPPED
        {
            lock(state).tasks.clear();
            return Ok(None);
        }
        // SAFETY: for a change of a child's state, this member is valid.
        let status = unsafe { info.si_status() };
        if status == libc::SIGTRAP | libc::PTRACE_EVENT_EXEC << 8 {
            return Ok(Some(pid));
        }
        // A signal that arrived before exec.
        next_stop()?;
        resume(libc::PTRACE_CONT, pid, status & 0xff);
    }
}

/// Returns the next thread that stopped or ended; None if none is left.
fn next_stop() -> Result<Option<(Pid, i32)>> {
    loop {
        let mut status = 0;
        let flags = libc::__WALL | libc::__WNOTHREAD;
        // SAFETY: `status` outlives the call.
        let tid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        match Errno::result(tid) {
            Ok(tid) => return Ok(Some((Pid::from_raw(tid), status))),
            Err(Errno::ECHILD) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waitpid"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::process::Stdio;

    use lab::server::tie;

    use super::*;
    use crate::event::EventKind;
    use crate::stops::EVENTS;
    use crate::tape::is_forbidden;

    /// The variable that names the part that this test program plays as a
    /// child: it is the command that the other tests trace.
    const PART: &str = "XTASK_TRACED_PART";

    /// A descriptor that is never open.
    const STRANGE: i32 = 1_000_000;

    /// The number of children or threads, and of calls that each makes.
    const MANY: i32 = 50;
    const CALLS: i32 = 40;

    #[test]
    #[ignore = "the body of the processes that the other tests trace"]
    #[allow(clippy::print_stdout)]
    fn part() {
        match std::env::var(PART).as_deref() {
            Ok("nothing") => {}
            Ok("children") => {
                let children: Vec<_> = (0..MANY)
                    .map(|number| fork_one_that(|| strange_calls(number)))
                    .collect();
                for child in children {
                    nix::sys::wait::waitpid(child, None).unwrap();
                }
            }
            Ok("threads") => thread::scope(|scope| {
                for number in 0..MANY {
                    scope.spawn(move || strange_calls(number));
                }
            }),
            Ok("sleeper") => {
                strange_calls(0);
                fork_one_that(|| {
                    strange_calls(1);
                    thread::sleep(Duration::from_mins(1));
                });
                thread::sleep(Duration::from_mins(1));
            }
            Ok("chain") => {
                for _ in 0..100_000 {
                    // SAFETY: parents exit at once, and children make system
                    // calls only.
                    let fork = unsafe { nix::unistd::fork() }.unwrap();
                    if let nix::unistd::ForkResult::Parent { .. } = fork {
                        // SAFETY: no memory is involved.
                        unsafe { libc::_exit(0) }
                    }
                }
            }
            Ok("stopped") => {
                signal::raise(signal::Signal::SIGSTOP).unwrap();
                strange_calls(2);
            }
            Ok("busy") => loop {
                strange_calls(3);
            },
            Ok("empty") => {
                let empty = nix::sys::eventfd::EventFd::from_flags(
                    nix::sys::eventfd::EfdFlags::EFD_NONBLOCK,
                );
                let empty = empty.unwrap();
                while empty.read().is_err() {}
            }
            Ok("tracer") => {
                let mut inner = start("sleeper");
                wait_for_calls(&inner, 2 * CALLS);
                println!("\ninner {}", inner.pid());
                drop(inner.stdout());
                thread::sleep(Duration::from_mins(1));
            }
            part => panic!("no part is called {part:?}"),
        }
    }

    fn fork_one_that(does: impl Fn()) -> Pid {
        // SAFETY: the child makes system calls only, and does not return.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => child,
            nix::unistd::ForkResult::Child => {
                does();
                // SAFETY: no memory is involved.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Makes calls that fail, and that no other code makes.
    fn strange_calls(number: i32) {
        for call in 0..CALLS {
            // SAFETY: there is no such descriptor.
            unsafe { libc::lseek(STRANGE + number, call.into(), 0) };
        }
    }

    fn command(part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // A test's name does not include the crate's.
        let (_, tests) = module_path!().split_once("::").unwrap();
        command.args(["--exact", &format!("{tests}::part"), "--ignored"]);
        command.args(["--nocapture", "--test-threads", "1"]);
        command.env(PART, part).stdout(Stdio::piped());
        tie(&mut command, signal::Signal::SIGKILL);
        command
    }

    fn start(part: &str) -> Tracee {
        Tracee::start(command(part)).unwrap()
    }

    /// Starts a part. If tracing is forbidden, reports that the test is
    /// skipped.
    fn try_start(part: &str) -> Option<Tracee> {
        match Tracee::start(command(part)) {
            Err(error) if is_forbidden(&error) => None,
            result => Some(result.unwrap()),
        }
    }

    /// Returns the strange calls that have returned: thread, number, place.
    fn strange(events: &[Event]) -> Vec<(Pid, i32, u64)> {
        let mut open = HashMap::new();
        let mut seen = Vec::new();
        for event in events {
            match &event.what {
                EventKind::Enter(call) => {
                    open.insert(event.tid, call.clone());
                }
                EventKind::Exit(outcome) => {
                    let call = open.remove(&event.tid).unwrap();
                    let fd = call.arguments[0] as i32;
                    if call.name == "lseek" && fd >= STRANGE {
                        assert_eq!(outcome.result, -i64::from(libc::EBADF));
                        let number = fd - STRANGE;
                        seen.push((event.tid, number, call.arguments[1]));
                    }
                }
                _ => {}
            }
        }
        seen
    }

    fn wait_for_calls(tracee: &Tracee, count: i32) {
        let events = || strange(&tracee.state().events).len();
        wait_until(|| events() >= count as usize);
    }

    /// Checks that every call of each of `MANY` was seen, in order, each on a
    /// thread of its own, and the thread's start and end.
    fn check_many(part: &str) -> Option<Trace> {
        let trace = try_start(part)?.wait().unwrap();
        assert!(trace.status.success(), "{}", trace.status);
        let seen = strange(&trace.events);
        let mut tids = HashSet::new();
        for number in 0..MANY {
            let of_one = seen.iter().filter(|call| call.1 == number);
            let (its, calls): (Vec<_>, Vec<_>) =
                of_one.map(|call| (call.0, call.2)).unzip();
            assert_eq!(calls, Vec::from_iter(0..CALLS as u64), "of {number}");
            assert!(its.iter().all(|tid| *tid == its[0]));
            assert!(tids.insert(its[0]), "{number} is not alone");
        }
        for tid in tids {
            let its = |what: fn(&EventKind) -> bool| {
                let all = trace.events.iter();
                all.filter(|e| e.tid == tid && what(&e.what)).count()
            };
            assert_eq!(
                its(|what| matches!(what, EventKind::Started { .. })),
                1
            );
            assert_eq!(its(|what| matches!(what, EventKind::Ended(_))), 1);
        }
        Some(trace)
    }

    #[test]
    fn of_50_children_no_event_is_lost() {
        let Some(trace) = check_many("children") else { return };
        let leader = trace.events[0].pid;
        for event in &trace.events {
            if let EventKind::Started { by } = event.what {
                assert_eq!(by, leader, "{event:?}");
            }
        }
    }

    #[test]
    fn of_50_threads_no_event_is_lost() {
        let Some(trace) = check_many("threads") else { return };
        let leader = trace.events[0].pid;
        assert!(trace.events.iter().all(|event| event.pid == leader));
    }

    #[test]
    fn one_that_is_killed_is_reported_and_leaves_no_process() {
        let Some(tracee) = try_start("sleeper") else { return };
        wait_for_calls(&tracee, 2 * CALLS);
        let pid = tracee.pid();
        signal::kill(pid, signal::Signal::SIGKILL).unwrap();
        wait_until(|| tracee.state().status.is_some());
        let error = format!("{:#}", tracee.stop().unwrap_err());
        assert!(error.contains("SIGKILL"), "{error}");
        assert_eq!(living(pid), 0);
    }

    #[test]
    fn one_that_is_always_another_is_stopped_too() {
        let Some(tracee) = try_start("chain") else { return };
        wait_until(|| tracee.state().events.len() > 1_000);
        let pid = tracee.pid();
        drop(tracee);
        assert_eq!(living(pid), 0);
    }

    #[test]
    fn it_ends_when_its_tracer_does() {
        if try_start("nothing").is_none() {
            return;
        }
        let mut outer = command("tracer").spawn().unwrap();
        let mut stdout = io::BufReader::new(outer.stdout.take().unwrap());
        let inner = loop {
            let mut line = String::new();
            assert_ne!(
                io::BufRead::read_line(&mut stdout, &mut line).unwrap(),
                0
            );
            if let Some(pid) = line.strip_prefix("inner ") {
                break Pid::from_raw(pid.trim().parse().unwrap());
            }
        };
        assert!(process::Process::read(inner).is_some());
        outer.kill().unwrap();
        outer.wait().unwrap();
        wait_until(|| living(inner) == 0);
    }

    /// Counts processes that have not ended. Zombies have: orphans stay zombies
    /// until the process that inherits them reaps them.
    fn living(group: Pid) -> usize {
        let group = process::group(group);
        group.iter().filter(|process| process.state != 'Z').count()
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        process::poll_until("the condition", PATIENCE, || Ok(is_so())).unwrap();
    }

    #[test]
    fn stopping_and_going_on_work_as_untraced() {
        let Some(tracee) = try_start("stopped") else { return };
        let pid = tracee.pid();
        let stopped = |event: &Event| match event.what {
            EventKind::Signal(signal) => signal.number == libc::SIGSTOP,
            _ => false,
        };
        wait_until(|| tracee.state().events.iter().any(stopped));
        thread::sleep(Duration::from_millis(100));
        assert_eq!(strange(&tracee.state().events), []);
        signal::kill(pid, signal::Signal::SIGCONT).unwrap();
        let trace = tracee.wait().unwrap();
        assert_eq!(strange(&trace.events).len(), CALLS as usize);
    }

    #[test]
    fn too_many_events_end_the_trace_with_a_sentence() {
        let Some(tracee) = try_start("busy") else { return };
        wait_for_calls(&tracee, CALLS);
        let pid = tracee.pid();
        let mut state = tracee.state();
        let last = state.events[0].clone();
        state.events.resize(EVENTS, last);
        drop(state);
        let error = format!("{:#}", tracee.wait().unwrap_err());
        assert!(error.contains("more system calls than"), "{error}");
        assert_eq!(living(pid), 0);
    }

    #[test]
    fn calls_are_counted_while_no_events_are_kept() {
        let Some(tracee) = try_start("busy") else { return };
        tracee.count();
        let count = || tracee.calls().get("lseek").copied().unwrap_or_default();
        wait_until(|| count().made > 1_000);
        assert_eq!(count().empty, 0);
        assert_eq!(tracee.state().events, []);
        let tracee = start("empty");
        tracee.count();
        let count = || tracee.calls().get("read").copied().unwrap_or_default();
        wait_until(|| count().empty > 1_000);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let mut command = Command::new("/nowhere/at-all");
        tie(&mut command, signal::Signal::SIGKILL);
        let error = format!("{:#}", Tracee::start(command).unwrap_err());
        assert!(error.contains("cannot start /nowhere/at-all"), "{error}");
    }
}
