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
//! Times are those of [`tape::marks`]: the client connects at 0, sends at 100,
//! closes at 150, and the server is shut down at 200.
//!
//! [`tape::marks`]: super::tape::marks

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;

use super::call::{
    Answer, Argument, CallStep, Data, Events, Handover, Registration,
};
use super::calls::{CALLS, Family, Operation};
use super::decode::completed;
use super::event::{SI_ASYNCIO, Signal};
use super::names::{self, Names};
use super::role::Role;
use super::scene::{REQUEST, Recording};
use super::steps::{Deed, OperationStep, Step};
use super::tape::{MAIN, at, marks};

/// Parses a text into a scene.
pub fn recording(text: &str) -> Recording {
    Recording { steps: script(text), marks: marks() }
}

/// Parses a text into steps, one per line.
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
    step.call().is_some_and(|call| call.family == Family::Ring)
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
        who => panic!("no thread is called {who}"),
    };
    Step {
        at: at(from.parse().unwrap()),
        until: match until {
            "-" | "." => None,
            until => Some(at(until.parse().unwrap())),
        },
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
        "signal" => signalled(rest),
        "completed" => done(rest),
        _ => Deed::Call(call(text)),
    }
}

/// Parses `SIGRTMIN client 1`, or `done` for the completion of an aio_read(3).
fn signalled(text: &str) -> Deed {
    let (name, socket) = text.split_once(' ').unwrap_or((text, ""));
    let (number, code) = match name {
        "SIGRTMIN" => (libc::SIGRTMIN(), 1),
        "done" => (libc::SIGRTMIN(), SI_ASYNCIO),
        name => (name.parse::<signal::Signal>().unwrap() as i32, 1),
    };
    let about = (!socket.is_empty()).then(|| role(socket));
    Deed::Signal(Signal::new(number, code, 0, 0), about)
}

/// Parses `recv(client 1) = 6`.
fn done(text: &str) -> Deed {
    let (operation, outcome) = text.split_once(" = ").unwrap();
    let Handover { operation, role, .. } = handover(operation, 0);
    let (number, new) = outcome.split_once(' ').unwrap_or((outcome, ""));
    let result = number.parse().unwrap();
    let answer = match operation.family {
        Family::Accept => Answer::Descriptor(self::role(new)),
        _ => {
            let count = u64::try_from(result).unwrap_or(0);
            completed(operation, result, 0, &data(count))
        }
    };
    let inside = false;
    Deed::Completed(OperationStep { operation, role, result, answer, inside })
}

/// Parses `accept4(listener) SOCK_CLOEXEC = 4 client 1`.
fn call(text: &str) -> CallStep {
    let (call, outcome) = text.split_once(" = ").unwrap_or((text, ""));
    let (name, rest) = call.split_once('(').unwrap();
    let (arguments, flags) = rest.rsplit_once(')').unwrap();
    let (about, handed) = arguments.split_once(": ").unwrap_or((arguments, ""));
    let (about, patience) = about.split_once("; ").unwrap_or((about, ""));
    let known = CALLS.iter().find(|spec| spec.name == name);
    let spec = known.unwrap_or_else(|| panic!("no call is called {name}"));
    let flags = bits(names::ACCEPT, flags.trim());
    let mut call = CallStep::new(spec.name, Vec::new());
    call.arguments = match registration(about) {
        Some((epoll, registration)) => vec![epoll, registration],
        None => parts(about).map(|it| argument(spec.family, it)).collect(),
    };
    call.arguments.extend(limit(patience));
    if spec.family == Family::Accept {
        call.arguments.push(Argument::AcceptFlags(flags.into()));
    }
    call.submitted = parts(handed).map(|it| handover(it, flags)).collect();
    let (result, answers) = outcome.split_once(' ').unwrap_or((outcome, ""));
    call.result = parse_result(result);
    call.answer = answer(&call, answers);
    call
}

/// Returns the request if `count` is its length, else nothing.
fn data(count: u64) -> Box<[u8]> {
    let all = if count == REQUEST.len() as u64 { REQUEST } else { &[] };
    all.into()
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(", ").filter(|part| !part.is_empty())
}

fn answer(call: &CallStep, answers: &str) -> Answer {
    let count = u64::try_from(call.result.unwrap_or(0)).unwrap_or(0);
    match call.family {
        Family::Accept if count > 0 => Answer::Descriptor(role(answers)),
        Family::Readiness => {
            let ready = parts(answers).map(|it| (role(it), Events::Any));
            Answer::Ready(ready.collect())
        }
        Family::Receive => Answer::Data(Data { bytes: data(count), count }),
        _ => Answer::Number,
    }
}

/// Parses `epoll, add client 1, EPOLLIN|EPOLLET`.
fn registration(text: &str) -> Option<(Argument, Argument)> {
    let (epoll, text) = text.split_once(", ")?;
    let (word, rest) = text.split_once(' ')?;
    let operation = match word {
        "add" => libc::EPOLL_CTL_ADD,
        "change" => libc::EPOLL_CTL_MOD,
        "remove" => libc::EPOLL_CTL_DEL,
        _ => return None,
    };
    let (socket, events) = rest.split_once(", ").unwrap_or((rest, ""));
    let events = bits(names::EPOLL, events);
    let registration = Registration { operation, role: role(socket), events };
    Some((
        Argument::Descriptor(role(epoll)),
        Argument::Registration(registration),
    ))
}

fn argument(family: Family, text: &str) -> Argument {
    if let Some(option) = names::number(names::SOCKET_OPTIONS, text) {
        return Argument::SocketOption(libc::SOL_SOCKET, option as i32);
    }
    if let Some(flags) = names::number(names::RING, text) {
        return Argument::RingFlags(flags);
    }
    if let Some(passed) = text.strip_prefix("passing ") {
        return Argument::Passed(role(passed));
    }
    match text {
        "MSG_DONTWAIT" => Argument::MessageFlags(libc::MSG_DONTWAIT as u64),
        "SHUT_WR" | "any child" | "5 ms" => Argument::Words(text.to_owned()),
        text => match (text.parse(), family) {
            (Ok(room), Family::Receive) => Argument::Room(room),
            (Ok(number), _) => Argument::Words(number.to_string()),
            (Err(_), _) => Argument::Descriptor(role(text)),
        },
    }
}

/// Parses `at most 300 s` or `without waiting`.
fn limit(text: &str) -> Option<Argument> {
    let patience = match text.strip_prefix("at most ") {
        Some(time) => time.strip_suffix(" s").unwrap().parse().unwrap(),
        None if text == "without waiting" => 0,
        None if text.is_empty() => return None,
        None => panic!("no limit is called {text}"),
    };
    Some(Argument::Patience(Duration::from_secs(patience)))
}

/// Parses `EPOLLIN|EPOLLET`.
fn bits(names: Names, text: &str) -> u32 {
    let flags = text.split('|').filter(|name| !name.is_empty());
    let flags = flags.map(|name| names::number(names, name).unwrap());
    flags.fold(0, |all, flag| all | flag)
}

/// Parses `6` or `EAGAIN`.
fn parse_result(text: &str) -> Option<i64> {
    let is_it = |it: &i32| format!("{:?}", Errno::from_raw(*it)) == text;
    match text.parse() {
        _ if text.is_empty() => None,
        Ok(number) => Some(number),
        Err(_) => Some(-i64::from((1..200).find(is_it).unwrap())),
    }
}

/// Parses `recv(client 1)`.
fn handover(text: &str, flags: u32) -> Handover {
    let (name, about) =
        text.strip_suffix(')').and_then(|it| it.split_once('(')).unwrap();
    Handover {
        operation: Operation::called(name),
        role: role(about),
        flags,
        data: Box::default(),
    }
}

fn role(text: &str) -> Role {
    let (name, number) = text.split_once(' ').unwrap_or((text, "1"));
    let number = number.parse().unwrap_or_else(|_| panic!("nothing is {text}"));
    match name {
        "client" => Role::Client(number),
        "datagrams" => Role::Datagrams(number),
        "epoll" => Role::Epoll(number),
        "eventfd" => Role::Event(number),
        "listener" => Role::Listener(number),
        "pipe" => Role::Pipe(number),
        "ring" => Role::Ring(number),
        "signals" => Role::Signals(number),
        name => panic!("no descriptor is called {name}"),
    }
}
