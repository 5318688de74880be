//! The memory that a session allocates, and that it keeps.

mod counting;
mod table;

use common::protocol::LINE_MOST;
use common::{Session, answer_datagram};
use counting::{Counting, counts, with_blocks_up_to};
use table::{End, MAX_REQUEST, about, rows};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that models pass at once.
const CHUNK: usize = 16 * 1024;
const MIB: usize = 1024 * 1024;
const NO_MEMORY: &[u8] = b"-ERR out of memory\r\n";

fn echo(size: usize) -> Vec<u8> {
    let mut request = format!("*2\r\n$4\r\nECHO\r\n${size}\r\n").into_bytes();
    request.resize(request.len() + size, b'x');
    request.extend_from_slice(b"\r\n");
    request
}

#[test]
fn whole_requests_allocate_nothing() {
    let about = about();
    let mut output = Vec::with_capacity(CHUNK);
    for row in rows() {
        if row.end == End::Incomplete {
            continue;
        }
        output.clear();
        let before = counts();
        let mut session = Session::new(7, MAX_REQUEST);
        session.answer(row.input, &about, &mut output);
        let after = counts();
        assert_eq!(after.allocations, before.allocations, "{}", row.name);
    }
}

#[test]
fn datagrams_allocate_nothing() {
    let about = about();
    let mut reply = vec![0; CHUNK];
    for row in rows() {
        let before = counts();
        answer_datagram(row.input, &about, &mut reply);
        let after = counts();
        assert_eq!(after.allocations, before.allocations, "{}", row.name);
    }
}

#[test]
fn split_requests_allocate_once_a_piece() {
    let about = about();
    let all: Vec<u8> = rows()
        .iter()
        .filter(|row| row.end == End::Open)
        .flat_map(|row| row.input.iter().copied())
        .collect();
    let all = [&all[..], &echo(200), &all].concat();
    let mut output = Vec::with_capacity(4 * CHUNK);
    for size in (1..100).chain((100..all.len()).step_by(89)) {
        let mut session = Session::new(7, MAX_REQUEST);
        output.clear();
        let idle = counts().held;
        for piece in all.chunks(size) {
            let before = counts();
            session.answer(piece, &about, &mut output);
            let allocations = counts().allocations - before.allocations;
            // The first piece of a request requires a place for the others.
            let most = if before.held == idle { 2 } else { 1 };
            assert!(allocations <= most, "{allocations} for {size} bytes");
        }
        assert!(session.wants_input());
    }
}

#[test]
fn idle_sessions_hold_nothing() {
    let about = about();
    let mut output = Vec::with_capacity(CHUNK);
    for row in rows() {
        if row.end == End::Incomplete {
            continue;
        }
        output.clear();
        let before = counts().held;
        let mut session = Session::new(7, MAX_REQUEST);
        for piece in row.input.chunks(1) {
            session.answer(piece, &about, &mut output);
        }
        assert_eq!(counts().held, before, "{}", row.name);
    }
}

/// Feeds input without an end until the session has had enough, or as much as
/// would be too much anyway. Returns what it held at most, between two chunks.
fn hold_most(start: &[u8], more: &[u8], max_request: usize) -> usize {
    let about = about();
    let mut output = Vec::with_capacity(CHUNK);
    let mut session = Session::new(7, max_request);
    let chunk = more.repeat(CHUNK / more.len());
    let before = counts().held;
    session.answer(start, &about, &mut output);
    let mut most = 0;
    for _ in 0..8 * max_request / CHUNK + 16 {
        session.answer(&chunk, &about, &mut output);
        most = most.max(counts().held - before);
    }
    assert!(!session.wants_input(), "{}", start.escape_ascii());
    assert_eq!(counts().held, before, "{}", start.escape_ascii());
    most.unsigned_abs()
}

#[test]
fn hostile_requests_stay_within_the_bound() {
    let streams: [(&[u8], &[u8]); 9] = [
        (b"", b"x"),
        (b"PING \"", b"x"),
        (b"", b"x\0"),
        (b"*", b"1"),
        (b"*1\r\n$", b"1"),
        (b"*1048576\r\n", b"$0\r\n\r\n"),
        (b"*2147483647\r\n", b"$1\r\nx\r\n"),
        (b"*1048576\r\n", b"$100\r\n"),
        (b"*3\r\n$4\r\nECHO\r\n$1048500\r\n", b"x"),
    ];
    for (start, more) in streams {
        for max_request in [4096, MIB] {
            let most = hold_most(start, more, max_request);
            let bound = 2 * max_request + LINE_MOST + 64;
            let name = start.escape_ascii();
            assert!(most <= bound, "{name}: {most} with {max_request}");
        }
    }
}

/// Announcing costs a client nothing, so it must cost a session nothing.
#[test]
fn what_is_announced_is_not_allocated() {
    let about = about();
    let mut output = Vec::with_capacity(CHUNK);
    let mut session = Session::new(7, MIB);
    let before = counts();
    session.answer(b"*1000000\r\n$1000000\r\nx", &about, &mut output);
    assert!(counts().asked - before.asked < 100);
}

/// Bytes asked for stand for bytes copied: a buffer that grew by the same
/// amount each time would ask for the square of what it holds.
#[test]
fn cost_grows_with_the_input_alone() {
    let about = about();
    for size in [MIB / 4, MIB, 4 * MIB] {
        let request = echo(size);
        let mut output = Vec::with_capacity(request.len());
        for piece_size in [1, 1000, CHUNK] {
            let mut session = Session::new(7, 2 * size);
            let before = counts();
            for piece in request.chunks(piece_size) {
                session.answer(piece, &about, &mut output);
            }
            let asked = counts().asked - before.asked;
            assert!(asked <= 4 * request.len(), "{asked} for {size}");
            let allocations = counts().allocations - before.allocations;
            assert!(allocations <= 32, "{allocations} for {size}");
            assert_eq!(output.len(), size + format!("${size}\r\n\r\n").len());
            output.clear();
        }
    }
}

#[test]
fn no_memory_for_a_request() {
    let about = about();
    let mut output = Vec::with_capacity(CHUNK);
    let mut session = Session::new(7, MIB);
    session.answer(b"PING\r\n", &about, &mut output);
    let request = echo(CHUNK);
    with_blocks_up_to(10_000, || {
        for piece in request.chunks(1000) {
            session.answer(piece, &about, &mut output);
        }
    });
    assert_eq!(output, [b"+PONG\r\n", NO_MEMORY].concat());
    assert!(!session.wants_input());
}

#[test]
fn no_memory_for_a_reply() {
    let about = about();
    let mut output = Vec::with_capacity(100);
    let mut session = Session::new(7, MIB);
    let requests = [b"PING\r\n", &echo(10_000)[..], b"PING\r\n"].concat();
    let completed = with_blocks_up_to(5000, || {
        session.answer(&requests, &about, &mut output)
    });
    assert_eq!(output, [b"+PONG\r\n", NO_MEMORY].concat());
    assert_eq!(completed, 2);
    assert!(!session.wants_input());
}

/// No room even for the error: the replies before it are still whole.
#[test]
fn no_memory_at_all() {
    let about = about();
    let mut output = Vec::with_capacity(10);
    let mut session = Session::new(7, MIB);
    with_blocks_up_to(0, || {
        session.answer(b"PING\r\nPING\r\n", &about, &mut output);
    });
    assert_eq!(output, b"+PONG\r\n");
    assert!(!session.wants_input());
}
