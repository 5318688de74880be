//! Steps written by hand as lines of text, for tests.
//!
//! ```text
//! main   -50 1   accept4(listener) SOCK_CLOEXEC = 4 client 1
//! child  2   101 recvfrom(client 1, 4096) = 6
//! main   120 -   epoll_wait(epoll; at most 300 s)
//! main   101 .   signal SIGRTMIN client 1
//! main   101 .   completed recv(client 1) = 6
//! child  1   .   begins
//! ```
//!
//! Times are those of [`tape::marks`]: the client comes at 0, asks at 100, goes
//! at 150, and the server is stopped at 200.
//!
//! [`tape::marks`]: super::tape::marks

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::unistd::Pid;

use super::decode::family;
use super::event::{SI_ASYNCIO, Signal};
use super::roles::Role;
use super::steps::{CallStep, Deed, Done, Step};
use super::tape::{MAIN, at};

/// Names that calls have; steps keep no others.
const NAMES: [&str; 27] = [
    "accept4",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "exit_group",
    "fcntl",
    "futex",
    "getpid",
    "io_uring_enter",
    "io_uring_setup",
    "mmap",
    "poll",
    "ppoll",
    "pselect6",
    "read",
    "recvfrom",
    "rt_sigtimedwait",
    "select",
    "sendto",
    "setsockopt",
    "shutdown",
    "wait4",
    "write",
];

/// The steps of a text, a line each.
pub fn script(text: &str) -> Vec<Step> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut steps: Vec<_> = lines.map(step).collect();
    let entered: Vec<_> =
        steps.iter().filter(|it| enters(it)).cloned().collect();
    for step in &mut steps {
        let (at, tid) = (step.at, step.tid);
        if let Deed::Completed(done) = &mut step.deed {
            done.inside = entered.iter().any(|enter| {
                let lasts = enter.until.is_none_or(|until| until >= at);
                enter.tid == tid && enter.at < at && lasts
            });
        }
    }
    steps
}

fn enters(step: &Step) -> bool {
    step.call().is_some_and(|call| call.name == "io_uring_enter")
}

fn step(line: &str) -> Step {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
    let (who, from, until) = (word(), word(), word());
    let deed = words.collect::<Vec<_>>().join(" ");
    let (pid, tid) = match who {
        "main" => (MAIN, MAIN),
        "child" => (MAIN + 1, MAIN + 1),
        "thread" => (MAIN, MAIN + 2),
        "other" => (MAIN, MAIN + 3),
        who => panic!("nobody is called {who}"),
    };
    Step {
        at: at(from.parse().unwrap()),
        until: until.parse().ok().map(at),
        pid: Pid::from_raw(pid),
        tid: Pid::from_raw(tid),
        deed: parse(&deed, pid == tid),
    }
}

fn parse(text: &str, process: bool) -> Deed {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    match first {
        "begins" => Deed::Started(process),
        "ends" => Deed::Ended(ExitStatus::from_raw(0)),
        "signal" => signal(rest),
        "completed" => completed(rest),
        _ => Deed::Call(call(text)),
    }
}

/// `SIGRTMIN client 1`, or `done`: an operation of aio_read(3) is.
fn signal(text: &str) -> Deed {
    let (name, socket) = text.split_once(' ').unwrap_or((text, ""));
    let (number, code) = match name {
        "SIGRTMIN" => (libc::SIGRTMIN(), 1),
        "SIGCHLD" => (libc::SIGCHLD, 1),
        "SIGUSR1" => (libc::SIGUSR1, 1),
        "done" => (libc::SIGRTMIN(), SI_ASYNCIO),
        name => panic!("no signal is called {name}"),
    };
    Deed::Signal(Signal::new(number, code, 0, 0), role(socket))
}

/// `recv(client 1) = 6`
fn completed(text: &str) -> Deed {
    let call = call(text.replace("recv(", "recvfrom(").as_str());
    let (name, _) = text.split_once('(').unwrap();
    let result = i32::try_from(call.result.unwrap()).unwrap();
    let operation = match name {
        "accept" => "accept",
        "recv" => "recv",
        "recvmsg" => "recvmsg",
        _ => "send",
    };
    let receives = operation.starts_with("recv");
    Deed::Completed(Done {
        operation,
        role: call.roles[0].clone(),
        result,
        bytes: if receives { result.max(0).cast_unsigned() } else { 0 },
        outcome: call
            .answers
            .first()
            .map_or(result.to_string(), Role::to_string),
        more: true,
        inside: false,
    })
}

fn call(text: &str) -> CallStep {
    let (call, outcome) = text.split_once(" = ").unwrap_or((text, ""));
    let (name, rest) = call.split_once('(').unwrap();
    let (arguments, flags) = rest.rsplit_once(')').unwrap();
    let (about, handed) = arguments.split_once(": ").unwrap_or((arguments, ""));
    let about = about.split("; ").next().unwrap_or_default();
    let (result, answers) = outcome.split_once(' ').unwrap_or((outcome, ""));
    let known = NAMES.into_iter().find(|known| *known == name);
    CallStep {
        name: known.unwrap_or("recvmsg"),
        family: family(name),
        roles: about.split(", ").filter_map(role).collect(),
        arguments: arguments.to_owned(),
        accept_flags: accept_flags(text, flags),
        result: parse_result(result),
        outcome: outcome.to_owned(),
        answers: answers.split(", ").filter_map(role).collect(),
        submitted: handed.split(", ").filter_map(submission).collect(),
    }
}

fn accept_flags(text: &str, flags: &str) -> Option<u64> {
    let is_set = |name| flags.contains(name);
    let cloexec = is_set("SOCK_CLOEXEC").then_some(libc::SOCK_CLOEXEC);
    let nonblock = is_set("SOCK_NONBLOCK").then_some(libc::SOCK_NONBLOCK);
    let flags = cloexec.unwrap_or(0) | nonblock.unwrap_or(0);
    text.contains("accept").then_some(flags as u64)
}

fn parse_result(text: &str) -> Option<i64> {
    match text {
        "" => None,
        "EAGAIN" => Some(-i64::from(libc::EAGAIN)),
        "EINTR" => Some(-i64::from(libc::EINTR)),
        "EBADF" => Some(-i64::from(libc::EBADF)),
        number => Some(number.parse().unwrap()),
    }
}

fn submission(text: &str) -> Option<(&'static str, Role)> {
    let (name, about) = text.strip_suffix(')')?.split_once('(')?;
    let name = ["accept", "recv", "recvmsg", "send"]
        .into_iter()
        .find(|known| *known == name)?;
    Some((name, role(about)?))
}

/// `client 1`; in `add client 1` too.
fn role(text: &str) -> Option<Role> {
    let text = ["add ", "change ", "remove "]
        .into_iter()
        .find_map(|word| text.strip_prefix(word))
        .unwrap_or(text);
    if let Some(number) = text.strip_prefix("client ") {
        return Some(Role::Client(number.parse().unwrap()));
    }
    Some(match text {
        "listener" => Role::Listener(1),
        "datagrams" => Role::Datagrams(1),
        "epoll" => Role::Epoll(1),
        "ring" => Role::Ring(1),
        "signals" => Role::Signals(1),
        _ => return None,
    })
}
