//! Tests the selection of calls from a server's trace.

use std::time::Duration;

use CallKind::{Accept, Close, Other, Receive, Send, Shutdown};
use trace::event::Signal;
use trace::script::script;
use trace::tape::at;

use crate::call::CallKind;
use crate::served::{Offset, Window, calls};

/// Returns the text, result and kind of the calls shown from 1 ms to 2 ms.
fn shown(text: &str) -> Vec<(String, String, CallKind)> {
    let window = Window { from: at(1.0), to: at(2.0) };
    calls(&script(text), Offset(Duration::ZERO), window)
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

fn line(
    text: &str,
    result: &str,
    kind: CallKind,
) -> (String, String, CallKind) {
    (text.to_owned(), result.to_owned(), kind)
}

#[test]
fn calls_that_relate_to_packets_are_shown() {
    // The first accept4 returns before the client connects.
    let trace = "
        main .01  .02  listen(listener) = 0
        main .03  .9   accept4(listener) = EAGAIN
        main .91  1.01 epoll_wait(epoll; at most 5 s) = 1 listener
        main 1.02 1.03 accept4(listener) = 7 client 1
        main 1.04 1.04 setsockopt(client 1, SO_KEEPALIVE) = 0
        main 1.04 1.05 recvfrom(client 1, 4096) = 6
        main 1.06 1.07 sendto(client 1, 7) = 7
        main 1.08 1.09 recvfrom(client 1, 4096) = 0
        main 1.10 1.11 shutdown(client 1, SHUT_WR) = 0
        main 1.12 1.13 close(client 1) = 0
        main 1.14 1.15 close(listener) = 0
        main 1.16 1.17 read(signals, 128) = 128
        main 1.18 2.01 epoll_wait(epoll; at most 5 s) = 1 signals
        main 2.02 2.03 close(client 2) = 0";
    let expected = [
        line("epoll_wait(epoll)", "1: listener ready", Other),
        line("accept4(listener)", "client 1", Accept),
        line("recvfrom(client 1, 4096)", r#"6 "PING\r\n""#, Receive(6)),
        line("sendto(client 1, 7)", "7", Send(7)),
        line("recvfrom(client 1, 4096)", "0, end of file", Receive(0)),
        line("shutdown(client 1, SHUT_WR)", "0", Shutdown),
        line("close(client 1)", "0", Close),
        // The shutdown ends this wait, so it is shown without a return.
        line("epoll_wait(epoll)", "...", Other),
    ];
    assert_eq!(shown(trace), expected);
}

#[test]
fn consecutive_eagains_are_one_line() {
    let mut trace = String::new();
    for round in 0..4 {
        trace += &format!(
            "main 1.0{round}  1.0{round}1 accept4(listener) = EAGAIN
             main 1.0{round}5 1.0{round}6 recvfrom(client 1, 9) = EAGAIN\n"
        );
    }
    // After the data there are only two, which are normal.
    trace += "main 1.1   1.101 recvfrom(client 1, 9) = 6
              main 1.102 1.103 recvfrom(client 1, 9) = EAGAIN
              main 1.104 1.105 accept4(listener) = EAGAIN";
    let both = "accept4(listener), recvfrom(client 1)";
    let expected = [
        line(both, "EAGAIN, 8 times", Other),
        line("recvfrom(client 1, 9)", r#"6 "PING\r\n""#, Receive(6)),
    ];
    assert_eq!(shown(&trace), expected);
}

#[test]
fn children_and_threads_have_names() {
    let trace = "
        main   1    1.001 recvfrom(client 1, 9) = 6
        thread 1    .     begins
        thread 1.01 1.011 recvfrom(client 1, 9) = 6
        child  1    .     begins
        child  1.02 1.021 recvfrom(client 1, 9) = 6
        main   1.03 1.031 close(client 1) = 0
        child  1.04 1.041 exit_group(0) = 0
        main   1.05 1.051 exit_group(0) = 0";
    let receives = |who: &str| {
        let text = format!("{who}recvfrom(client 1, 9)");
        line(&text, r#"6 "PING\r\n""#, Receive(6))
    };
    let expected = [
        receives(""),
        receives("thread 1: "),
        receives("child 1: "),
        line("close(client 1)", "0, the child's copy stays open", Other),
        line("child 1: exit_group(0)", "0", Close),
    ];
    assert_eq!(shown(trace), expected);
}

#[test]
fn signals_and_completions_are_shown() {
    let trace = "
        main 1    1.1 io_uring_enter(ring: send(client 1)) = 1
        main 1.05 .   completed recv(client 1) = 6
        main 1.2  .   signal SIGRTMIN client 1
        main 1.3  .   signal SIGRTMIN";
    let signal = Signal::new(libc::SIGRTMIN(), 1, 0, 0);
    let enter = "io_uring_enter(ring: send(client 1, \"\"))";
    let expected = [
        line(enter, "1", Send(0)),
        line("completed: recv(client 1)", r#"6 "PING\r\n""#, Receive(6)),
        line(&format!("signal {signal}: client 1"), "", Other),
    ];
    assert_eq!(shown(trace), expected);
}
