//! Streams at the parser's limits: just below, at and above each. Each has the
//! replies of the models and of Redis 7.0, which differ in two ways only.
//!
//! Redis checks the length of a line only while its end has not arrived. The
//! models keep 16 bytes of a client's name; Redis keeps all of it.

use std::fmt;

use crate::bytes::{bulk, protocol_error, request, show, unknown};

/// The longest valid line, without its end. Redis calls it
/// PROTO_INLINE_MAX_SIZE.
pub const LINE_MOST: usize = 64 * 1024;

/// The longest valid argument. It is the models' default for all arguments of a
/// request together, and the setting of the Redis that replies are compared
/// with.
pub const ARGUMENT_MOST: usize = 1024 * 1024;

/// Long streams are split here first, so that the rest fits into one read of
/// Redis, whatever the size of its buffer.
const FIRST_CUT: usize = 60_000;

/// A stream that a client sends before it half-closes, and all replies to it.
#[derive(Clone, Debug)]
pub struct Edge {
    pub stream: Vec<u8>,
    /// The position where the stream is split, if it is sent in pieces.
    cut: Option<usize>,
    pub reply: Vec<u8>,
    /// The replies of Redis to the same pieces.
    pub redis: Vec<u8>,
}

impl Edge {
    /// Makes an edge at which Redis replies the same.
    pub fn new(stream: impl Into<Vec<u8>>, reply: impl Into<Vec<u8>>) -> Self {
        let (stream, reply) = (stream.into(), reply.into());
        let redis = reply.clone();
        Self { stream, cut: None, reply, redis }
    }

    /// Returns the pieces in which the stream is sent.
    pub fn pieces(&self) -> Vec<&[u8]> {
        let first = Some(FIRST_CUT).filter(|cut| *cut < self.stream.len());
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in first.into_iter().chain(self.cut).chain([self.stream.len()])
        {
            pieces.push(&self.stream[start..end]);
            start = end;
        }
        pieces
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, cut at {:?}", show(&self.stream), self.cut)
    }
}

/// Returns all edges.
pub fn edges() -> Vec<Edge> {
    [words(), headers(), numbers(), payloads(), shown(), names()].concat()
}

/// Inline requests: with either line end, split before and within it, and
/// without one.
pub fn words() -> Vec<Edge> {
    let mut edges = Vec::new();
    for length in [LINE_MOST - 1, LINE_MOST, LINE_MOST + 1] {
        let line = "x".repeat(length);
        edges.extend([
            words_cut(&line, "\n", None),
            words_cut(&line, "\n", Some(length)),
            words_cut(&line, "\r\n", None),
            words_cut(&line, "\r\n", Some(length)),
            words_cut(&line, "\r\n", Some(length + 1)),
            words_cut(&line, "", None),
            words_cut(&line, "\r", None),
        ]);
        // A carriage return without a line feed is part of the line.
        let line = format!("{}\r", &line[1..]);
        edges.push(words_cut(&line, "\r\n", Some(length)));
        let line = format!("{}\ry", &line[1..length - 1]);
        edges.push(words_cut(&line, "\r\n", Some(length - 1)));
    }
    edges
}

/// Makes a line of one long word, perhaps a second word, and its end or half of
/// it.
fn words_cut(line: &str, end: &str, cut: Option<usize>) -> Edge {
    let too_long = protocol_error("too big inline request");
    let arguments = if line.ends_with('y') { "'y' " } else { "" };
    let (after, answer) = match end.ends_with('\n') {
        true => ("PING\r\n", unknown(&line[..128], arguments) + "+PONG\r\n"),
        false => ("", String::new()),
    };
    let stream = format!("{line}{end}{after}");
    let length = line.len();
    let reply = if length > LINE_MOST { &too_long } else { &answer };
    let mut edge = Edge { cut, ..Edge::new(&*stream, &**reply) };
    let late = is_too_long_for_redis(&edge, 0, b'\n');
    edge.redis = if late { too_long } else { answer }.into_bytes();
    edge
}

/// Returns whether after one of the pieces Redis has more bytes from `start` on
/// than a line may have, and none of them is `last`.
fn is_too_long_for_redis(edge: &Edge, start: usize, last: u8) -> bool {
    let mut arrived = 0;
    edge.pieces().into_iter().any(|piece| {
        arrived += piece.len();
        let line = &edge.stream[start.min(arrived)..arrived];
        line.len() > LINE_MOST && !line.contains(&last)
    })
}

/// Headers, which end with `\r` and any one byte.
pub fn headers() -> Vec<Edge> {
    let mut edges = Vec::new();
    for length in [LINE_MOST - 1, LINE_MOST, LINE_MOST + 1] {
        for before in ["", "*1\r\n"] {
            let end = before.len() + length;
            edges.extend([
                header_cut(before, length, "\r\n", None),
                header_cut(before, length, "\r\n", Some(end)),
                header_cut(before, length, "\r\n", Some(end + 1)),
                header_cut(before, length, "\rx", None),
                header_cut(before, length, "", None),
                header_cut(before, length, "\r", None),
            ]);
        }
    }
    edges
}

fn header_cut(
    before: &str,
    length: usize,
    end: &str,
    cut: Option<usize>,
) -> Edge {
    let (mark, too_long, no_number) = match before {
        "" => ('*', "too big mbulk count string", "invalid multibulk length"),
        _ => ('$', "too big bulk count string", "invalid bulk length"),
    };
    let (too_long, no_number) =
        (protocol_error(too_long), protocol_error(no_number));
    let digits = "1".repeat(length - 1);
    let stream = format!("{before}{mark}{digits}{end}");
    let answer = if end.len() == 2 { no_number } else { String::new() };
    let reply = if length > LINE_MOST { &too_long } else { &answer };
    let mut edge = Edge { cut, ..Edge::new(&*stream, &**reply) };
    let late = is_too_long_for_redis(&edge, before.len(), b'\r');
    edge.redis = if late { too_long } else { answer }.into_bytes();
    edge
}

/// Numbers: argument counts, argument lengths, protocol versions.
pub fn numbers() -> Vec<Edge> {
    let bad_count = protocol_error("invalid multibulk length");
    let bad_length = protocol_error("invalid bulk length");
    let accepted = protocol_error("expected '$', got 'P'");
    let count = |count: &str, reply: &str| {
        Edge::new(format!("*{count}\r\nPING\r\n"), reply)
    };
    let length = |length: &str, reply: &str| {
        Edge::new(format!("*1\r\n${length}\r\n"), reply)
    };
    let version = |version: &str, reply: &str| {
        let stream = format!("HELLO {version}\r\nPING\r\n");
        let reply = format!("{reply}\r\n+PONG\r\n");
        Edge::new(stream, reply)
    };
    let unsupported = "-NOPROTO unsupported protocol version";
    let no_number = "-ERR Protocol version is not an integer or out of range";
    vec![
        count("-9223372036854775809", &bad_count),
        count("-9223372036854775808", "+PONG\r\n"),
        count("-1", "+PONG\r\n"),
        count("0", "+PONG\r\n"),
        count("1", &accepted),
        count("2147483646", &accepted),
        count("2147483647", &accepted),
        count("2147483648", &bad_count),
        count("9223372036854775807", &bad_count),
        count("9223372036854775808", &bad_count),
        length("-1", &bad_length),
        length("0", ""),
        length(&(ARGUMENT_MOST - 1).to_string(), ""),
        length(&ARGUMENT_MOST.to_string(), ""),
        length(&(ARGUMENT_MOST + 1).to_string(), &bad_length),
        length("99999999999999999", &bad_length),
        length("999999999999999999", &bad_length),
        length("9223372036854775807", &bad_length),
        length("9223372036854775808", &bad_length),
        version("1", unsupported),
        version("4", unsupported),
        version("9223372036854775807", unsupported),
        version("9223372036854775808", no_number),
    ]
}

/// Arguments of the greatest valid length, sent completely.
pub fn payloads() -> Vec<Edge> {
    let mut edges = Vec::new();
    for length in [ARGUMENT_MOST - 1, ARGUMENT_MOST] {
        let name = "x".repeat(length);
        let stream = [&request(&[&name]), "PING\r\n".as_bytes()].concat();
        let reply = unknown(&name, "") + "+PONG\r\n";
        let whole = Edge::new(stream, reply);
        let end = whole.stream.len() - "\r\nPING\r\n".len();
        let cuts = [None, Some(end - 1), Some(end), Some(end + 1)];
        edges.extend(cuts.map(|cut| Edge { cut, ..whole.clone() }));
    }
    // A quoted word counts with the bytes sent, not those it stands for.
    for length in [LINE_MOST - 1, LINE_MOST] {
        let rest = (length - "ECHO \"\"".len()) % 4;
        let quoted = "\\x41".repeat((length - "ECHO \"\"".len()) / 4);
        let line = format!("ECHO \"{quoted}{}\"\r\n", "A".repeat(rest));
        let message = "A".repeat(quoted.len() / 4 + rest);
        edges.push(Edge::new(line, bulk(message)));
    }
    edges
}

/// Error messages, which show a part of the request.
pub fn shown() -> Vec<Edge> {
    let mut edges = Vec::new();
    for length in [127, 128, 129] {
        let long = "x".repeat(length);
        edges.push(Edge::new(request(&[&long]), unknown(&long, "")));
        let argument = format!("'{}' ", &long[..length.min(128)]);
        let stream = request(&["n", &long, "y"]);
        edges.push(Edge::new(stream, unknown("n", &argument)));
        // Quotes and the blank count too, so the first argument leaves one byte
        // of the limit, or none.
        let first = &long[..length - 3];
        let left = if length == 127 { "'y' " } else { "" };
        let stream = request(&["n", first, "yy"]);
        let reply = unknown("n", &format!("'{first}' {left}"));
        edges.push(Edge::new(stream, reply));
    }
    edges
}

/// Client names, which the models cut.
pub fn names() -> Vec<Edge> {
    let edge = |length: usize| {
        let name = &"abcdefghijklmnopqrstuvwxyz"[..length];
        let stream =
            format!("CLIENT SETNAME {name}\r\nCLIENT GETNAME\r\nPING\r\n");
        let reply = |kept: &str| {
            format!("+OK\r\n${}\r\n{kept}\r\n+PONG\r\n", kept.len())
        };
        let kept = &name[..length.min(16)];
        let redis = reply(name).into_bytes();
        Edge { redis, ..Edge::new(stream, reply(kept)) }
    };
    [15, 16, 17].map(edge).to_vec()
}
