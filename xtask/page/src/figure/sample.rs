//! Sample traces, written by hand.

use trace::figure::Column;
use trace::script::recording;
use trace::tally::Tally;
use trace::tally::{Calls, Count};

use crate::survey::{Cost, Survey};

/// Titles and traces. `POLLS` stands for many calls that return EAGAIN.
const TRACES: [(&str, &str); 7] = [
    (
        "blocking",
        "main -99.9 -99.8 socket() = 3
         main -99   .1    accept4(listener) = 4 client 1
         main .2    .3    getpid() = 1
         main 1     100.2 recvfrom(client 1, 4096) = 6
         main 100.3 100.4 sendto(client 1, 7) = 7
         main 100.5 160   recvfrom(client 1, 4096) = 0",
    ),
    (
        "nonblocking",
        "main -10   -9.9  accept4(listener) = EAGAIN
         main .1    .2    accept4(listener) = EAGAIN
         main .3    .4    accept4(listener) = 4 client 1
         POLLS
         main 99    99.1  recvfrom(client 1, 4096) = EAGAIN
         main 100.1 100.2 recvfrom(client 1, 4096) = 6
         main 100.3 100.4 sendto(client 1, 7) = 7",
    ),
    (
        "multiplexing-epoll",
        "main -99   .1    epoll_wait(epoll) = 1 listener
         main .2    .3    accept4(listener) = 4 client 1
         main .4    .5    epoll_ctl(epoll, add client 1, EPOLLIN) = 0
         main 1     100.1 epoll_wait(epoll) = 1 client 1
         main 100.2 100.3 recvfrom(client 1, 4096) = 6
         main 100.4 100.5 sendto(client 1, 7) = 7",
    ),
    (
        "signal-driven",
        "main -99   .1    ppoll(signals) = 1 signals
         main .2    .3    accept4(listener) = 4 client 1
         main 1     100.1 ppoll(signals) = 1 signals
         main 100.2 100.3 read(signals, 128) = 128
         main 100.3 .     signal SIGRTMIN client 1
         main 100.4 100.5 recvfrom(client 1, 4096) = 6
         main 100.6 100.7 sendto(client 1, 7) = 7",
    ),
    // A signal handler copies the data.
    (
        "signal-driven, UDP",
        "main -99   100.1 ppoll(signals) = EINTR
         main 100.2 .     signal SIGUSR1 datagrams
         main 100.4 100.5 recvfrom(datagrams, 4096) = 6
         main 100.6 100.7 sendto(datagrams, 7) = 7",
    ),
    ("async-io/io-uring", RING),
    // Another thread copies the data, and sends a signal.
    (
        "async-io/posix-aio",
        "main   -99   .1    rt_sigtimedwait() = 29
         main   .2    .3    accept4(listener) = 4 client 1
         thread 1     100.1 read(client 1, 4096) = 6
         main   2     100.3 rt_sigtimedwait() = 10
         thread 100.2 100.3 futex() = 0
         main   100.3 .     signal done
         thread 100.4 100.5 write(client 1, 7) = 7",
    ),
];

const RING: &str = "
    main -99.5 -99.4 io_uring_setup(1024, IORING_SETUP_DEFER_TASKRUN) = 5
    main -99   .1    io_uring_enter(ring) = 1
    main 1     100.2 io_uring_enter(ring: recv(client 1)) = 1
    main 100.1 .     completed recv(client 1) = 6
    main 100.3 100.4 io_uring_enter(ring: send(client 1)) = 1";

pub fn column(title: &str, trace: &str) -> Column {
    let polls = (0..49).map(|round| {
        let at = 1 + 2 * round;
        format!(
            "main {at}   {at}.1 recvfrom(client 1, 4096) = EAGAIN
             main {at}.2 {at}.3 accept4(listener) = EAGAIN\n"
        )
    });
    let trace = trace.replace("POLLS\n", &polls.collect::<String>());
    Column::new(title, &recording(&trace)).unwrap()
}

/// Makes the columns of the figure.
pub fn columns() -> Vec<Column> {
    TRACES.map(|(title, trace)| column(title, trace)).to_vec()
}

/// Makes columns that no model has: a ring without the flags that determine
/// when it copies, and a receive call during which the client sends.
pub fn further_columns() -> [Column; 2] {
    let ring = RING.replace(", IORING_SETUP_DEFER_TASKRUN", "");
    let meeting = "main .1    .2    accept4(listener) = 4 client 1
         main .3    .4    recvfrom(client 1, 4096) = EAGAIN
         main 99.9  100.1 recvfrom(client 1, 4096) = 6
         main 100.2 100.3 sendto(client 1, 7) = 7";
    [column("ring without flags", &ring), column("meeting", meeting)]
}

/// Makes a survey with consistent counts.
pub fn survey() -> Survey {
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
    let cost = |title: &str, many: Option<Tally>| Cost {
        title: title.to_owned(),
        tallies: [Some(tally(1_000)), many],
    };
    Survey {
        columns: columns(),
        costs: vec![
            cost("blocking", None),
            cost("multiplexing-epoll/level", Some(tally(20))),
        ],
        timelines: vec![(
            "blocking".to_owned(),
            "ms the server's calls < took".to_owned(),
        )],
        missing: vec![("async-io/io-uring".to_owned(), "<no>".to_owned())],
    }
}
