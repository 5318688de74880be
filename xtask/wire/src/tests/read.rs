//! From a server's trace to the calls that stand beside packets.

use std::time::Duration;

use nix::unistd::Pid;
use trace::decode::{Family, family};
use trace::event::Signal;
use trace::roles::Role;
use trace::steps::{CallStep, Deed, Done, Step};

use crate::call::Kind;
use crate::served::{Offset, Window, calls};

const SERVER: i32 = 100;

/// What the leader does, from one microsecond to another.
fn step((at, until): (u64, Option<u64>), deed: Deed) -> Step {
    Step {
        at: Duration::from_micros(at),
        until: until.map(Duration::from_micros),
        pid: Pid::from_raw(SERVER),
        tid: Pid::from_raw(SERVER),
        deed,
    }
}

fn call(
    (at, until): (u64, u64),
    name: &'static str,
    (role, result): (Role, i64),
) -> Step {
    let call = CallStep {
        name,
        family: family(name),
        arguments: match family(name) {
            Family::Readiness => format!("{role}; at most 5 s"),
            _ => role.to_string(),
        },
        roles: vec![role.clone()],
        result: Some(result),
        outcome: match result {
            0.. => result.to_string(),
            _ => "EAGAIN, nothing there yet".to_owned(),
        },
        answers: if result > 0 { vec![role] } else { Vec::new() },
        submitted: Vec::new(),
        accept_flags: None,
    };
    step((at, Some(until)), Deed::Call(call))
}

/// Of another thread, or of another process.
fn by(pid: i32, tid: i32, step: Step) -> Step {
    Step { pid: Pid::from_raw(pid), tid: Pid::from_raw(tid), ..step }
}

/// What is shown: text, result, kind.
fn shown(steps: &[Step]) -> Vec<(String, String, Kind)> {
    let window = Window {
        from: Duration::from_micros(1_000),
        to: Duration::from_micros(2_000),
    };
    calls(steps, Offset::none(), window)
        .into_iter()
        .map(|call| {
            let result = match call.ended {
                Some(_) => call.result,
                None => "...".to_owned(),
            };
            (call.text, result, call.kind)
        })
        .collect()
}

fn line(text: &str, result: &str, kind: Kind) -> (String, String, Kind) {
    (text.to_owned(), result.to_owned(), kind)
}

const AGAIN: i64 = -(libc::EAGAIN as i64);

#[test]
fn what_has_to_do_with_packets_is_shown() {
    let steps = [
        call((10, 20), "listen", (Role::Listener(1), 0)),
        // Before the client came, and until it came.
        call((30, 900), "accept4", (Role::Listener(1), AGAIN)),
        call((910, 1_010), "epoll_wait", (Role::Listener(1), 1)),
        call((1_020, 1_030), "accept4", (Role::Listener(1), 7)),
        call((1_031, 1_032), "setsockopt", (Role::Client(1), 0)),
        call((1_040, 1_050), "recvfrom", (Role::Client(1), 6)),
        call((1_060, 1_070), "sendto", (Role::Client(1), 7)),
        call((1_080, 1_090), "recvfrom", (Role::Client(1), 0)),
        call((1_100, 1_110), "shutdown", (Role::Client(1), 0)),
        call((1_120, 1_130), "close", (Role::Client(1), 0)),
        call((1_140, 1_150), "close", (Role::Listener(1), 0)),
        call((1_160, 1_170), "read", (Role::Signals(1), 128)),
        // It ends with the stop, so it has not ended for us.
        call((1_180, 2_010), "epoll_wait", (Role::Epoll(1), 1)),
        call((2_020, 2_030), "close", (Role::Client(2), 0)),
    ];
    let expected = [
        line("epoll_wait(listener)", "1", Kind::Other),
        line("accept4(listener)", "7", Kind::Accept),
        line("recvfrom(client 1)", "6", Kind::Receive(6)),
        line("sendto(client 1)", "7", Kind::Send(7)),
        line("recvfrom(client 1)", "0", Kind::Receive(0)),
        line("shutdown(client 1)", "0", Kind::Shutdown),
        line("close(client 1)", "0", Kind::Close),
        line("epoll_wait(epoll)", "...", Kind::Other),
    ];
    assert_eq!(shown(&steps), expected);
}

#[test]
fn asking_in_vain_is_one_line() {
    let vain = |at: u64, name, role| call((at, at + 1), name, (role, AGAIN));
    let mut steps = Vec::new();
    for round in 0..4 {
        let at = 1_000 + 10 * round;
        steps.push(vain(at, "accept4", Role::Listener(1)));
        steps.push(vain(at + 5, "recvfrom", Role::Client(1)));
    }
    steps.push(call((1_100, 1_101), "recvfrom", (Role::Client(1), 6)));
    // Twice only: it knows now that it has taken all.
    steps.push(vain(1_102, "recvfrom", Role::Client(1)));
    steps.push(vain(1_104, "accept4", Role::Listener(1)));
    let both = "accept4(listener), recvfrom(client 1)";
    let expected = [
        line(both, "EAGAIN, 8 times", Kind::Other),
        line("recvfrom(client 1)", "6", Kind::Receive(6)),
    ];
    assert_eq!(shown(&steps), expected);
}

#[test]
fn children_and_threads_have_names() {
    let started = |is_process| step((1_000, None), Deed::Started(is_process));
    let close = |at| call((at, at + 1), "close", (Role::Client(1), 0));
    let receive = |at| call((at, at + 1), "recvfrom", (Role::Client(1), 6));
    let exit = |at| call((at, at + 1), "exit_group", (Role::Input, 0));
    let steps = [
        receive(1_000),
        by(SERVER, 101, started(false)),
        by(SERVER, 101, receive(1_010)),
        by(102, 102, started(true)),
        by(102, 102, receive(1_020)),
        close(1_030),
        by(102, 102, exit(1_040)),
        exit(1_050),
    ];
    let expected = [
        line("recvfrom(client 1)", "6", Kind::Receive(6)),
        line("thread 1: recvfrom(client 1)", "6", Kind::Receive(6)),
        line("child 1: recvfrom(client 1)", "6", Kind::Receive(6)),
        line("close(client 1)", "0, the child has a copy", Kind::Other),
        line("child 1: exit_group(stdin)", "0", Kind::Close),
    ];
    assert_eq!(shown(&steps), expected);
}

#[test]
fn signals_and_completions_are_told_of() {
    let mut enter = call((1_000, 1_100), "io_uring_enter", (Role::Ring(1), 1));
    if let Deed::Call(call) = &mut enter.deed {
        call.submitted = vec![("send", Role::Client(1))];
    }
    let done = Done {
        operation: "recv",
        role: Role::Client(1),
        result: 6,
        bytes: 6,
        outcome: "6".to_owned(),
        more: true,
        inside: true,
    };
    let signal = Signal { number: 34, code: 1, fd: Some(7), sender: None };
    let steps = [
        enter,
        step((1_050, None), Deed::Completed(done)),
        step((1_200, None), Deed::Signal(signal, Some(Role::Client(1)))),
        step((1_300, None), Deed::Signal(signal, None)),
    ];
    let expected = [
        line("io_uring_enter(ring)", "1", Kind::Send(0)),
        line("completed: recv(client 1)", "6", Kind::Receive(6)),
        line(&format!("signal {signal}: client 1"), "", Kind::Other),
    ];
    assert_eq!(shown(&steps), expected);
}
