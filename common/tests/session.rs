//! Every row of the table, cut into pieces in every way.

mod table;

use std::time::{Duration, Instant};

use common::{About, Counters, Session};
use table::{End, Outcome, Row, feed, rows};

fn assert_row(row: &Row, found: &Outcome, how: &str) {
    assert_eq!(
        found.output.escape_ascii().to_string(),
        row.output.escape_ascii().to_string(),
        "{}: output {how}",
        row.name,
    );
    assert_eq!(found.open, row.end != End::Ended, "{}: open {how}", row.name);
}

#[test]
fn whole() {
    for row in rows() {
        assert_row(row, &feed([row.input]), "fed whole");
    }
}

#[test]
fn byte_by_byte() {
    for row in rows() {
        assert_row(row, &feed(row.input.chunks(1)), "fed byte by byte");
    }
}

#[test]
fn split_at_every_point() {
    for row in rows() {
        let whole = feed([row.input]);
        for at in 0..=row.input.len() {
            let (first, second) = row.input.split_at(at);
            let found = feed([first, second]);
            assert_row(row, &found, &format!("split at {at}"));
            assert_eq!(found, whole, "{}: split at {at}", row.name);
        }
    }
}

#[test]
fn with_the_next_row_trailing() {
    for pair in rows().windows(2) {
        let (row, next) = (pair[0], pair[1]);
        if row.end == End::Incomplete {
            continue;
        }
        let both = [row.input, next.input].concat();
        let mut output = row.output.to_vec();
        if row.end == End::Open {
            output.extend_from_slice(next.output);
        }
        let whole = feed([&both[..]]);
        assert_eq!(
            whole.output.escape_ascii().to_string(),
            output.escape_ascii().to_string(),
            "{} and {}",
            row.name,
            next.name,
        );
        assert_eq!(feed(both.chunks(1)), whole, "{}", row.name);
        for at in 0..=both.len() {
            let (first, second) = both.split_at(at);
            assert_eq!(feed([first, second]), whole, "{}", row.name);
        }
    }
}

#[test]
fn counts_completed_requests() {
    let cases: &[(&[u8], usize)] = &[
        (b"", 0),
        (b"\r\n\n*0\r\n*-1\r\n", 0),
        (b"PING\r\nPING\r\n*1\r\n$4\r\nPING\r\n", 3),
        (b"PING\r\n*1\r\n$4\r\nPIN", 1),
        (b"nonsense\r\n*1\r\nx\r\n", 1),
        (b"QUIT\r\nPING\r\n", 1),
    ];
    for (input, completed) in cases {
        let found = feed([*input]);
        assert_eq!(found.completed, *completed, "{}", input.escape_ascii());
    }
}

#[test]
fn lines_end_or_are_too_long() {
    let most = common::protocol::LINE_MOST;
    let long = vec![b'x'; most + 1];
    let cases: [(&[u8], &[u8], &str); 3] = [
        (b"", b"\n", "too big inline request"),
        (b"*", b"\r\n", "too big mbulk count string"),
        (b"*1\r\n", b"\r\n", "too big bulk count string"),
    ];
    for (before, after, text) in cases {
        let start = before.len() % 4;
        let too_long = [before, &long[start..], after].concat();
        let error = format!("-ERR Protocol error: {text}\r\n");
        for size in [1, 7, 16 * 1024, too_long.len()] {
            let found = feed(too_long.chunks(size));
            assert_eq!(found.output, error.as_bytes(), "{size} at a time");
            assert!(!found.open);
        }
        let fits = [before, &long[start + 1..], after].concat();
        for size in [1, 7, 16 * 1024, fits.len()] {
            let found = feed(fits.chunks(size));
            assert_ne!(found.output, error.as_bytes(), "{size} at a time");
            assert!(!found.output.is_empty(), "{size} at a time");
        }
    }
}

/// The replies to one chunk of requests are part of the bound on a connection's
/// memory.
#[test]
fn replies_stay_in_proportion() {
    let requests: [&[u8]; 9] = [
        b"INFO\n",
        b"HELLO\n",
        b"COMMAND\n",
        b"COMMAND LIST\n",
        b"COMMAND HELP\n",
        b"CLIENT HELP\n",
        b"CONFIG HELP\n",
        b"CONFIG GET *\n",
        b"COMMAND INFO command|getkeys\n",
    ];
    for request in requests {
        let length = feed([request]).output.len();
        let name = request.escape_ascii();
        assert!(length <= 128 * request.len(), "{name}: {length}");
    }
}

#[test]
fn info_has_an_upper_limit() {
    let long = "an unreasonably long name, longer than any that there is: é";
    let most = u64::MAX;
    let about = About {
        model: long,
        variant: long,
        pid: u32::MAX,
        tid: u32::MAX,
        event_loop: Some(u32::MAX),
        kernel: "6.18.0-a-release-as-long-as-uname-has-room-for-01234567890123",
        counters: Counters {
            clients: most,
            accepted: most,
            rejected: most,
            requests: most,
            empty_calls: most,
            datagrams: most,
            datagrams_dropped: most,
        },
    };
    for version in ["2", "3"] {
        let mut session = Session::new(most, table::MAX_REQUEST);
        let mut output = Vec::new();
        let hello = format!("HELLO {version}\r\n");
        session.answer(hello.as_bytes(), &about, &mut output);
        output.clear();
        session.answer(b"INFO\r\n", &about, &mut output);
        assert!(output.len() <= 512, "{} bytes", output.len());
        assert!(output.ends_with(b"dropped:18446744073709551615\r\n\r\n"));
    }
}

#[test]
fn debug_takes_time_where_it_is_allowed() {
    let ok: &[u8] = b"+OK\r\n";
    let refused: &[u8] = b"-ERR value is not a time of at most 1 second\r\n";
    let unknown = |name: &str| {
        format!(
            "-ERR unknown subcommand or wrong number of arguments for \
             '{name}'. Try DEBUG HELP.\r\n"
        )
    };
    let unknown = ["SLEEP", "spin", "x"].map(unknown);
    let rows: [(&str, u64, &[u8]); 13] = [
        ("DEBUG SLEEP 0.02", 20_000, ok),
        ("debug sleep \"2e-3\"", 2_000, ok),
        ("DEBUG SPIN 3000", 3_000, ok),
        ("DEBUG SPIN 0", 0, ok),
        ("DEBUG SLEEP 1.1", 0, refused),
        ("DEBUG SLEEP -1", 0, refused),
        ("DEBUG SLEEP x", 0, refused),
        ("DEBUG SLEEP 0.00000000000000000000001", 0, refused),
        ("DEBUG SPIN 1000001", 0, refused),
        ("DEBUG SPIN 0.5", 0, refused),
        ("DEBUG SLEEP", 0, unknown[0].as_bytes()),
        ("DEBUG spin 1 2", 0, unknown[1].as_bytes()),
        ("DEBUG x", 0, unknown[2].as_bytes()),
    ];
    for (request, least, reply) in rows {
        let mut session = Session::new(7, table::MAX_REQUEST).with_debug();
        let mut output = Vec::new();
        let start = Instant::now();
        let line = format!("{request}\r\n");
        session.answer(line.as_bytes(), &table::about(), &mut output);
        let took = start.elapsed();
        assert_eq!(
            output.escape_ascii().to_string(),
            reply.escape_ascii().to_string(),
            "{request}"
        );
        assert!(took >= Duration::from_micros(least), "{request}: {took:?}");
    }
    let mut session = Session::new(7, table::MAX_REQUEST).with_debug();
    let mut output = Vec::new();
    session.answer(b"DEBUG HELP\r\n", &table::about(), &mut output);
    assert!(output.starts_with(b"*7\r\n+DEBUG <subcommand>"));
}

#[test]
fn idle_sessions_are_small() {
    assert!(size_of::<Session>() <= 96, "{} bytes", size_of::<Session>());
}
