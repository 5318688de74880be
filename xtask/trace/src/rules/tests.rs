//! Checks each rule on a scene in which it holds, and on one in which it does
//! not.

use super::{Rule, rules};
use crate::script::recording;

/// A rule, a scene in which it holds, a change to that scene (from, to), and a
/// part of the message that follows.
type Row =
    (&'static str, &'static str, (&'static str, &'static str), &'static str);

const BLOCKING: &str = "
    main -50 1   accept4(listener) SOCK_CLOEXEC = 4 client 1
    main 2   2.1 setsockopt(client 1, SO_RCVTIMEO) = 0
    main 2.2 2.3 setsockopt(client 1, SO_SNDTIMEO) = 0
    main 3   101 recvfrom(client 1, 4096) = 6
    main 101 102 sendto(client 1, 7) = 7
    main 103 151 recvfrom(client 1, 4096) = 0
    main 152 153 close(client 1) = 0
    main 154 -   accept4(listener) SOCK_CLOEXEC";

const NONBLOCKING: &str = "
    main -1  -.9 accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = EAGAIN
    main 1   2   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main 3   4   recvfrom(client 1, 4096) = EAGAIN
    main 5   6   recvfrom(client 1, 4096) = EAGAIN
    main 7   8   recvfrom(client 1, 4096) = EAGAIN
    main 101 102 recvfrom(client 1, 4096) = 6
    main 103 104 sendto(client 1, 7) = 7
    main 151 152 recvfrom(client 1, 4096) = 0
    main 153 154 close(client 1) = 0";

const POLL: &str = "
    main -50 1   poll(listener, signals) = 1 listener
    main 2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main 4   101 poll(listener, signals, client 1) = 1 client 1
    main 102 103 recvfrom(client 1, 4096) = 6
    main 104 105 sendto(client 1, 7) = 7
    main 106 151 poll(listener, signals, client 1) = 1 client 1
    main 152 153 recvfrom(client 1, 4096) = 0
    main 154 155 close(client 1) = 0
    main 156 -   poll(listener, signals)";

const EPOLL: &str = "
    main -50 1   epoll_wait(epoll) = 1 listener
    main 2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main 4   5   epoll_ctl(epoll, add client 1, EPOLLIN) = 0
    main 6   101 epoll_wait(epoll) = 1 client 1
    main 102 103 recvfrom(client 1, 4096) = 6
    main 104 105 sendto(client 1, 7) = 7
    main 106 151 epoll_wait(epoll) = 1 client 1
    main 152 153 recvfrom(client 1, 4096) = 0
    main 154 155 close(client 1) = 0
    main 156 -   epoll_wait(epoll)";

const EDGE: &str = "
    main -50 1   epoll_wait(epoll) = 1 listener
    main 2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main 4   5   epoll_ctl(epoll, add client 1, EPOLLIN|EPOLLET) = 0
    main 6   101 epoll_wait(epoll) = 1 client 1
    main 102 103 recvfrom(client 1, 6) = 6
    main 104 105 recvfrom(client 1, 6) = EAGAIN
    main 106 -   epoll_wait(epoll)";

const ONESHOT: &str = "
    main -50 1   epoll_wait(epoll) = 1 listener
    main 2   3   epoll_ctl(epoll, add client 1, EPOLLIN|EPOLLONESHOT) = 0
    main 6   101 epoll_wait(epoll) = 1 client 1
    main 102 103 recvfrom(client 1, 4096) = 6
    main 104 105 epoll_ctl(epoll, change client 1, EPOLLIN|EPOLLONESHOT) = 0
    main 106 151 epoll_wait(epoll) = 1 client 1
    main 152 153 close(client 1) = 0
    main 154 -   epoll_wait(epoll)";

const SIGNALS: &str = "
    main -50 101 ppoll(signals) = 1 signals
    main 102 103 read(signals, 128) = 128
    main 103 .   signal SIGRTMIN client 1
    main 104 105 recvfrom(client 1, 4096) = 6
    main 106 -   ppoll(signals)";

const HANDLER: &str = "
    main -50 101 ppoll(signals) = EINTR
    main 102 .   signal SIGUSR1 datagrams
    main 103 104 recvfrom(datagrams, 4096) = 6
    main 105 106 sendto(datagrams, 7) = 7
    main 107 -   ppoll(signals)";

const RING: &str = "
    main -60 -59 io_uring_setup(1024, IORING_SETUP_DEFER_TASKRUN) = 7
    main -50 1   io_uring_enter(ring: accept(listener)) SOCK_CLOEXEC = 1
    main 1   .   completed accept(listener) = 4 client 1
    main 2   101 io_uring_enter(ring: recv(client 1)) = 1
    main 101 .   completed recv(client 1) = 6
    main 101.2 103 io_uring_enter(ring: send(client 1)) = 1
    main 103 .   completed send(client 1) = 7
    main 104 151 io_uring_enter(ring) = 0
    main 151 .   completed recv(client 1) = 0
    main 152 153 close(client 1) = 0
    main 154 -   io_uring_enter(ring)";

const AIO: &str = "
    main   -50 1   rt_sigtimedwait() = 34
    thread 2   101 read(client 1, 4096) = 6
    main   3   103 rt_sigtimedwait() = 34
    main   103 .   signal done
    thread 104 105 write(client 1, 7) = 7";

const PROCESS: &str = "
    main  -50 1   poll(signals, listener) = 1 listener
    main  2   3   accept4(listener) SOCK_CLOEXEC = 4 client 1
    main  4   5   clone() = 101
    child 5   .   begins
    main  6   7   close(client 1) = 0
    main  8   161 poll(signals, listener) = 1 signals
    child 9   10  close(listener) = 0
    child 11  101 recvfrom(client 1, 4096) = 6
    child 102 103 sendto(client 1, 7) = 7
    child 104 151 recvfrom(client 1, 4096) = 0
    child 152 153 close(client 1) = 0
    child 154 .   ends
    main  162 163 wait4(any child) = 101";

const PREFORK: &str = "
    main  -60 -59 clone() = 101
    child -59 .   begins
    main  -58 -   poll(signals)
    child -50 1   accept4(listener) SOCK_CLOEXEC = 4 client 1
    child 11  101 recvfrom(client 1, 4096) = 6
    child 102 103 sendto(client 1, 7) = 7
    child 104 151 recvfrom(client 1, 4096) = 0
    child 152 153 close(client 1) = 0
    child 154 -   accept4(listener) SOCK_CLOEXEC";

const THREAD: &str = "
    main   -50 1   accept4(listener) SOCK_CLOEXEC = 4 client 1
    main   2   3   clone3() = 102
    thread 3   .   begins
    main   4   -   accept4(listener) SOCK_CLOEXEC
    thread 5   101 recvfrom(client 1, 4096) = 6
    thread 102 103 sendto(client 1, 7) = 7
    thread 104 105 close(client 1) = 0";

const LEADERS: &str = "
    thread -60 101 epoll_wait(epoll) = 1 client 1
    main   -50 1   epoll_wait(epoll) = 1 listener
    main   2   3   epoll_ctl(epoll, add client 1, EPOLLIN|EPOLLONESHOT) = 0
    main   6   -   epoll_wait(epoll)
    thread 102 103 recvfrom(client 1, 4096) = 6
    thread 104 105 epoll_ctl(epoll, change client 1, EPOLLIN|EPOLLONESHOT) = 0
    thread 106 -   epoll_wait(epoll)";

const WORKERS: &str = "
    main   -50 1   epoll_wait(epoll) = 1 listener
    main   2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main   4   101 epoll_wait(epoll) = 1 client 1
    main   102 103 recvfrom(client 1, 4096) = 6
    main   104 107 epoll_wait(epoll) = 1 eventfd
    thread 105 106 write(eventfd, 8) = 8
    main   108 109 sendto(client 1, 7) = 7
    main   110 -   epoll_wait(epoll)";

const LOOPS: &str = "
    main   -50 -   epoll_wait(epoll)
    thread -50 1   epoll_wait(epoll) = 1 listener
    thread 2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    thread 4   101 epoll_wait(epoll) = 1 client 1
    thread 102 103 recvfrom(client 1, 4096) = 6
    thread 104 105 sendto(client 1, 7) = 7
    thread 106 -   epoll_wait(epoll)";

const ACCEPTOR: &str = "
    main   -50 1   epoll_wait(epoll) = 1 listener
    main   2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main   4   -   epoll_wait(epoll)
    thread 4   101 epoll_wait(epoll) = 1 client 1
    thread 102 103 recvfrom(client 1, 4096) = 6
    thread 104 105 sendto(client 1, 7) = 7
    thread 106 -   epoll_wait(epoll)";

const PASSED: &str = "
    main  -50 1   epoll_wait(epoll) = 1 listener
    main  2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
    main  4   5   sendmsg(pipe, passing client 1) = 8
    main  6   7   close(client 1) = 0
    main  8   -   epoll_wait(epoll)
    child 6   7   recvmsg(pipe) = 8
    child 8   101 epoll_wait(epoll) = 1 client 1
    child 102 103 recvfrom(client 1, 4096) = 6
    child 104 105 sendto(client 1, 7) = 7
    child 106 -   epoll_wait(epoll)";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("accepts_with_cloexec", BLOCKING, ("SOCK_CLOEXEC = 4", "= 4"),
        "main calls accept(listener), without SOCK_CLOEXEC"),
    ("accepts_with_cloexec", RING, ("SOCK_CLOEXEC", ""),
        "accept(listener)), without SOCK_CLOEXEC"),
    ("accepts_nonblocking", POLL, ("|SOCK_NONBLOCK", ""),
        "main calls accept(listener, SOCK_CLOEXEC), without SOCK_NONBLOCK"),
    ("accepts_blocking", BLOCKING, ("SOCK_CLOEXEC", "SOCK_NONBLOCK"),
        "main calls accept(listener, SOCK_NONBLOCK)"),
    ("closes_each_client_once", BLOCKING, ("close(client 1)", "getpid()"),
        "main closes client 1 0 times"),
    ("closes_each_client_once", RING, ("close(client 1)", "getpid()"),
        "main closes client 1 0 times"),
    ("closes_each_client_once", POLL,
        ("sendto(client 1, 7) = 7", "close(client 1) = 0"),
        "main closes client 1 2 times"),
    ("uses_no_closed_descriptor", BLOCKING, ("= 7", "= EBADF"),
        "main calls send(client 1)"),
    ("one_at_a_time", BLOCKING,
        ("main 101", "main 99 99.1 accept4(listener) = 5 client 2\nmain 101"),
        "main calls accept(listener) meanwhile"),
    ("sets_socket_timeouts", BLOCKING, ("SO_SNDTIMEO", "SO_KEEPALIVE"),
        "no setsockopt(client, SO_SNDTIMEO)"),
    ("waits_in_the_transfer", BLOCKING, ("main 3   101", "main 101 101.1"),
        "main was in no receive when the request came"),
    ("never_asks_for_readiness", BLOCKING,
        ("main 2.2 2.3 setsockopt(client 1, SO_SNDTIMEO)",
         "main 2.2 2.3 poll(client 1)"), "main calls poll(client 1)"),
    ("child_never_asks_for_readiness", PROCESS,
        ("child 11 ", "child 10 10.5 poll(client 1) = 1 client 1\nchild 11 "),
        "child 1 calls poll(client 1)"),
    ("never_waits", NONBLOCKING,
        ("main 5   6   recvfrom(client 1, 4096) = EAGAIN",
         "main 5   6   clock_nanosleep(5 ms) = 0"), "main calls sleep()"),
    ("never_waits", NONBLOCKING,
        ("main 5   6   recvfrom(client 1, 4096) = EAGAIN", ""),
        "2 receives returned EAGAIN"),
    ("waits_in_select", "main -50 101 pselect6(datagrams) = 1 datagrams
        main 102 103 recvfrom(datagrams, 9) = 6", ("pselect6", "poll"),
        "main calls poll(datagrams)"),
    ("waits_in_poll", POLL, ("106 151 poll(", "106 151 epoll_wait("),
        "main calls epoll_wait(listener, signals, client 1)"),
    ("waits_in_epoll", EPOLL, ("6   101 epoll_wait(", "6   101 poll("),
        "main calls poll(epoll)"),
    ("passes_all_sockets", POLL, (", client 1)", ")"),
        "main calls poll(listener, signals), without client 1"),
    ("passes_all_sockets", POLL,
        ("poll(listener, signals, client", "poll(client"),
        "main calls poll(client 1), without listener"),
    ("waits_for_signals_only", SIGNALS,
        ("106 -   ppoll(signals)", "106 -   ppoll(signals, client 1)"),
        "main calls poll(signals, client 1)"),
    ("never_waits_in_a_transfer", EPOLL, ("main 102 103", "main 99 103"),
        "main calls receive(client 1)"),
    ("registers_once", EPOLL,
        ("sendto(client 1, 7) = 7",
         "epoll_ctl(epoll, change client 1, EPOLLIN) = 0"),
        "main calls epoll_ctl(epoll, change client 1, EPOLLIN) again"),
    ("registers_for_levels", EPOLL, ("EPOLLIN", "EPOLLIN|EPOLLET"),
        "main calls epoll_ctl(epoll, add client 1, EPOLLIN|EPOLLET)"),
    ("registers_for_edges", EDGE, ("|EPOLLET", ""),
        "main calls epoll_ctl(epoll, add client 1, EPOLLIN)"),
    ("rearms_after_each_report", ONESHOT,
        ("epoll_ctl(epoll, change client 1, EPOLLIN|EPOLLONESHOT)", "getpid()"),
        "client 1 was reported and not armed again"),
    ("rearms_after_each_report", ONESHOT,
        ("change client 1, EPOLLIN|EPOLLONESHOT", "change client 1, EPOLLIN"),
        "without EPOLLONESHOT"),
    ("rearms_after_each_report", LEADERS,
        ("epoll_ctl(epoll, change client 1, EPOLLIN|EPOLLONESHOT)", "getpid()"),
        "client 1 was reported and not armed again"),
    ("reads_until_empty", EDGE,
        ("104 105 recvfrom(client 1, 6) = EAGAIN", "104 105 getpid() = 1"),
        "a receive has brought all 6 bytes that it had room for, and main \
         calls epoll_wait(epoll) without another"),
    ("learns_when_its_wait_returns", EPOLL, ("6   101", "100.5 101"),
        "main was in no wait when the data came"),
    ("learns_when_its_wait_returns", SIGNALS,
        ("103 .   signal", "103.5 . signal"),
        "a handler runs on main"),
    ("learns_by_signal", SIGNALS,
        ("signal SIGRTMIN client 1", "signal SIGCHLD"),
        "main receives the request, and no signal has named its socket"),
    ("handler_runs_inside_the_wait", HANDLER,
        ("main 102 .", "main 101.5 101.6 getpid() = 1\nmain 102 ."),
        "a signal interrupts main after getpid"),
    ("handler_runs_inside_the_wait", HANDLER,
        ("signal SIGUSR1 datagrams", "signal SIGCHLD"), "no handler runs"),
    ("copies_inside_enter", RING, ("IORING_SETUP_DEFER_TASKRUN", "0"),
        "without IORING_SETUP_DEFER_TASKRUN"),
    ("copies_inside_enter", RING,
        ("main 2   101 io_uring_enter(ring: recv(client 1)) = 1",
         "main 2   2.1 io_uring_enter(ring: recv(client 1)) = 1"),
        "recv of client 1 is complete before io_uring_enter is called"),
    ("copies_inside_enter", RING,
        ("main 152", "main 151.5 152 recvfrom(client 1, 9) = 0\nmain 152"),
        "main calls receive(client 1)"),
    ("transfers_are_operations", RING,
        ("main 152", "main 151.5 152 recvfrom(client 1, 9) = 0\nmain 152"),
        "main calls receive(client 1)"),
    ("transfers_are_operations", RING,
        ("main 2 ", "main 1.5 1.6 accept4(listener) = 4 client 1\nmain 2 "),
        "main calls accept(listener)"),
    ("one_call_per_round", RING,
        ("main 103 .", "main 101.5 101.6 read(signals, 128) = 128\nmain 103 ."),
        "main calls receive(signals)"),
    ("one_receive_for_all", RING,
        ("io_uring_enter(ring) =", "io_uring_enter(ring: recv(client 1)) ="),
        "it was submitted 2 times"),
    ("starts_no_other", BLOCKING,
        ("main 101 ", "thread 100 . begins\nmain 101 "),
        "there is thread 1 beside it"),
    ("answers_from_a_child", PROCESS, ("child 102", "main 102"),
        "main calls send(client 1)"),
    ("answers_from_a_loop_process", PASSED, ("child 104", "main 104"),
        "main calls send(client 1)"),
    ("passes_the_client_and_closes_its_copy", PASSED,
        ("passing client 1", "passing listener"), "main passes no client"),
    ("passes_the_client_and_closes_its_copy", PASSED,
        ("main  6   7   close(client 1)", "main 6 7 getpid()"),
        "main does not close the client that it has passed on"),
    ("parent_and_child_close_copies", PROCESS,
        ("child 9   10  close(listener)", "child 9 10 getpid()"),
        "child 1 does not close the listener"),
    ("parent_and_child_close_copies", PROCESS,
        ("main  6   7   close(client 1)", "main 6 7 getpid()"),
        "main does not close the stream"),
    ("worker_accepts", PREFORK, ("child -50", "main  -50"),
        "main calls accept(listener, SOCK_CLOEXEC)"),
    ("reaps_its_children", PROCESS,
        ("wait4(any child) = 101", "wait4(any child) = 0"),
        "the parent never waits for the child"),
    ("answers_from_its_own_thread", THREAD, ("thread 102", "main 102"),
        "main calls send(client 1)"),
    ("answers_from_its_own_thread", THREAD, ("thread 102", "other 102"),
        "thread 1 receives, and thread 2 calls send(client 1)"),
    ("main_thread_only_accepts", LOOPS, ("thread 104", "main 104"),
        "main calls send(client 1)"),
    ("main_thread_transfers", WORKERS, ("main   108", "thread 108"),
        "thread 1 calls send(client 1)"),
    ("worker_reports_its_answer", WORKERS,
        ("write(eventfd, 8) = 8", "getpid() = 1"),
        "no worker reports between the request and the reply"),
    ("client_stays_with_its_loop", LOOPS, ("thread 104", "other 104"),
        "thread 2 calls send(client 1)"),
    ("loop_accepts_its_clients", LOOPS, ("thread 2 ", "main   2 "),
        "main calls accept(listener"),
    ("main_thread_accepts", ACCEPTOR, ("main   2", "other 2"),
        "thread 1 calls accept(listener"),
    ("client_stays_with_its_loop", ACCEPTOR, ("thread 104", "main 104"),
        "main calls send(client 1)"),
    ("main_thread_copies_nothing", AIO, ("thread 2 ", "main 2 "),
        "main calls receive(client 1)"),
    ("learns_by_completion", AIO, ("signal done", "signal SIGRTMIN"),
        "no signal has reported the completion to main"),
];

fn rule(name: &str) -> &'static Rule {
    rules().find(|rule| rule.name == name).unwrap()
}

#[test]
fn each_rule_holds_and_fails() {
    for (name, scene, (from, to), expected) in ROWS {
        let rule = rule(name);
        if let Err(error) = rule.check(&recording(scene)) {
            panic!("{name} does not hold: {error:#}");
        }
        assert!(scene.contains(from), "{name}: {from} is not in its scene");
        let changed = scene.replacen(from, to, 1);
        let Err(error) = rule.check(&recording(&changed)) else {
            panic!("{name} holds though {from:?} became {to:?}");
        };
        let error = format!("{error:#}");
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.starts_with(rule.why), "{name}: {error}");
    }
}

#[test]
fn each_rule_is_checked_here() {
    for rule in rules() {
        let known = ROWS.iter().any(|(name, ..)| *name == rule.name);
        assert!(known, "{} has no row", rule.name);
        let same = rules().filter(|other| other.name == rule.name);
        assert_eq!(same.count(), 1, "{} is there twice", rule.name);
    }
}

#[test]
fn each_rule_applies_to_a_model() {
    let workspace = lab::model::Workspace::load().unwrap();
    for rule in rules() {
        let mut variants = workspace.variants();
        let applies = variants.any(|(_, it)| (rule.applies_to)(&it.promises));
        assert!(applies, "no model promises what {} is about", rule.name);
    }
}
