//! Traces as they might be, written by hand.

use std::time::Duration;

use nix::unistd::Pid;

use super::Column;
use crate::trace::all::{Gathered, Line};
use crate::trace::count::{Calls, Count, Tally};
use crate::trace::decode::family;
use crate::trace::event::{SI_ASYNCIO, Signal};
use crate::trace::roles::Role;
use crate::trace::scene::Marks;
use crate::trace::steps::{CallStep, Deed, Done, Step};

const CLIENT: Role = Role::Client(1);
const NOTHING: i64 = -(libc::EAGAIN as i64);

/// Connecting at 100 ms, asking at 200 ms.
fn marks() -> Marks {
    let ms = Duration::from_millis;
    Marks {
        connecting: ms(100),
        connected: ms(101),
        sending: ms(200),
        sent: ms(201),
        answered: ms(210),
        closing: ms(260),
        stopping: ms(310),
    }
}

/// From and until in tenths of a millisecond.
fn step(from: u64, until: u64, tid: i32, deed: Deed) -> Step {
    let time = |tenths| Duration::from_micros(100 * tenths);
    Step {
        at: time(from),
        until: Some(time(until)),
        pid: Pid::from_raw(1),
        tid: Pid::from_raw(tid),
        deed,
    }
}

fn made(name: &'static str, roles: &[Role], result: i64) -> CallStep {
    CallStep {
        name,
        family: family(name),
        roles: roles.to_vec(),
        arguments: String::new(),
        result: Some(result),
        outcome: match result {
            NOTHING => "EAGAIN, nothing there".to_owned(),
            result => result.to_string(),
        },
        answers: Vec::new(),
        submitted: Vec::new(),
        accept_flags: None,
    }
}

fn call(
    times: (u64, u64),
    tid: i32,
    name: &'static str,
    role: &Role,
    result: i64,
) -> Step {
    let made = made(name, std::slice::from_ref(role), result);
    step(times.0, times.1, tid, Deed::Call(made))
}

fn column(title: &str, steps: &[Step]) -> Column {
    Column::new(title, steps, &marks()).unwrap()
}

fn blocking() -> Column {
    column(
        "blocking",
        &[
            call((1, 2), 1, "socket", &Role::Listener(1), 3),
            call((10, 1_001), 1, "accept4", &Role::Listener(1), 4),
            call((1_002, 1_003), 1, "getpid", &CLIENT, 1),
            call((1_010, 2_002), 1, "recvfrom", &CLIENT, 6),
            call((2_003, 2_004), 1, "sendto", &CLIENT, 7),
            call((2_005, 2_600), 1, "recvfrom", &CLIENT, 0),
        ],
    )
}

fn nonblocking() -> Column {
    let mut steps = vec![
        call((900, 901), 1, "accept4", &Role::Listener(1), NOTHING),
        call((1_001, 1_002), 1, "accept4", &Role::Listener(1), NOTHING),
        call((1_003, 1_004), 1, "accept4", &Role::Listener(1), 4),
    ];
    for round in 0..49 {
        let at = 1_010 + 20 * round;
        let times = (at, at + 1);
        steps.push(call(times, 1, "recvfrom", &CLIENT, NOTHING));
        let times = (at + 2, at + 3);
        steps.push(call(times, 1, "accept4", &Role::Listener(1), NOTHING));
    }
    steps.push(call((1_990, 1_991), 1, "recvfrom", &CLIENT, NOTHING));
    steps.push(call((2_001, 2_002), 1, "recvfrom", &CLIENT, 6));
    steps.push(call((2_003, 2_004), 1, "sendto", &CLIENT, 7));
    column("nonblocking", &steps)
}

/// Receives just when the client sends.
pub fn meeting() -> Column {
    column(
        "nonblocking",
        &[
            call((1_001, 1_002), 1, "accept4", &Role::Listener(1), 4),
            call((1_003, 1_004), 1, "recvfrom", &CLIENT, NOTHING),
            call((1_999, 2_001), 1, "recvfrom", &CLIENT, 6),
            call((2_002, 2_003), 1, "sendto", &CLIENT, 7),
        ],
    )
}

fn epoll() -> Column {
    let epoll = Role::Epoll(1);
    column(
        "multiplexing-epoll",
        &[
            call((10, 1_001), 1, "epoll_wait", &epoll, 1),
            call((1_002, 1_003), 1, "accept4", &Role::Listener(1), 4),
            call((1_004, 1_005), 1, "epoll_ctl", &epoll, 0),
            call((1_010, 2_001), 1, "epoll_wait", &epoll, 1),
            call((2_002, 2_003), 1, "recvfrom", &CLIENT, 6),
            call((2_004, 2_005), 1, "sendto", &CLIENT, 7),
        ],
    )
}

/// A signal of a socket.
fn ready(number: i32, role: Role) -> Deed {
    let signal = Signal { number, code: 1, fd: Some(4), sender: None };
    Deed::Signal(signal, Some(role))
}

fn signals() -> Column {
    let signals = Role::Signals(1);
    column(
        "signal-driven",
        &[
            call((10, 1_001), 1, "ppoll", &signals, 1),
            call((1_002, 1_003), 1, "accept4", &Role::Listener(1), 4),
            call((1_010, 2_001), 1, "ppoll", &signals, 1),
            call((2_002, 2_003), 1, "read", &signals, 128),
            step(2_003, 2_003, 1, ready(libc::SIGRTMIN(), CLIENT)),
            call((2_004, 2_005), 1, "recvfrom", &CLIENT, 6),
            call((2_006, 2_007), 1, "sendto", &CLIENT, 7),
        ],
    )
}

/// The handler of a signal copies.
fn handler() -> Column {
    let (signals, socket) = (Role::Signals(1), Role::Datagrams(1));
    column(
        "signal-driven, UDP",
        &[
            call((10, 2_001), 1, "ppoll", &signals, -514),
            step(2_002, 2_002, 1, ready(libc::SIGUSR1, socket.clone())),
            call((2_004, 2_005), 1, "recvfrom", &socket, 6),
            call((2_006, 2_007), 1, "sendto", &socket, 7),
        ],
    )
}

fn ring() -> Column {
    let setup = "io_uring_setup";
    let mut deferring = made(setup, &[], 5);
    deferring.arguments = "1024, IORING_SETUP_DEFER_TASKRUN".to_owned();
    column("async-io/io-uring", &receiving(deferring))
}

/// Nothing is known of when such a ring copies.
pub fn ring_without_flags() -> Column {
    column("ring without flags", &receiving(made("io_uring_setup", &[], 5)))
}

fn receiving(setup: CallStep) -> [Step; 5] {
    let ring = Role::Ring(1);
    let enter = |operation: &'static str| {
        let mut made = made("io_uring_enter", std::slice::from_ref(&ring), 1);
        made.submitted.push((operation, CLIENT));
        Deed::Call(made)
    };
    let done = Deed::Completed(Done {
        operation: "recv",
        role: CLIENT,
        result: 6,
        bytes: 6,
        outcome: "6".to_owned(),
        more: true,
        inside: true,
    });
    [
        step(5, 6, 1, Deed::Call(setup)),
        call((10, 1_001), 1, "io_uring_enter", &ring, 1),
        step(1_010, 2_002, 1, enter("recv")),
        step(2_001, 2_001, 1, done),
        step(2_003, 2_004, 1, enter("send")),
    ]
}

/// Another thread copies, and sends a signal.
fn library() -> Column {
    let signal = Signal {
        number: libc::SIGUSR1,
        code: SI_ASYNCIO,
        fd: None,
        sender: Some(Pid::from_raw(1)),
    };
    let none = Role::Unknown(-1);
    column(
        "async-io/posix-aio",
        &[
            call((10, 1_001), 1, "rt_sigtimedwait", &none, 29),
            call((1_002, 1_003), 1, "accept4", &Role::Listener(1), 4),
            call((1_010, 2_001), 2, "read", &CLIENT, 6),
            call((1_020, 2_003), 1, "rt_sigtimedwait", &none, 10),
            call((2_002, 2_003), 2, "futex", &none, 0),
            step(2_003, 2_003, 1, Deed::Signal(signal, None)),
            call((2_004, 2_005), 2, "write", &CLIENT, 7),
        ],
    )
}

pub fn columns() -> Vec<Column> {
    vec![
        blocking(),
        nonblocking(),
        epoll(),
        signals(),
        handler(),
        ring(),
        library(),
    ]
}

/// With counts that add up.
pub fn gathered() -> Gathered {
    let tally = |waits| {
        let count = |made, empty| Count { made, empty };
        Tally {
            requests: 1_000,
            calls: Calls::from([
                ("recvfrom", count(1_250, 250)),
                ("sendto", count(1_000, 0)),
                ("epoll_wait", count(waits, 0)),
            ]),
        }
    };
    let line = |title: &str, many: Option<Tally>| Line {
        title: title.to_owned(),
        tallies: [Some(tally(1_000)), many],
    };
    Gathered {
        columns: columns(),
        lines: vec![
            line("blocking", None),
            line("multiplexing-epoll/level", Some(tally(20))),
        ],
        timelines: vec![(
            "blocking".to_owned(),
            "ms the server's calls < took".to_owned(),
        )],
        missing: vec![("async-io/io-uring".to_owned(), "<no>".to_owned())],
    }
}
