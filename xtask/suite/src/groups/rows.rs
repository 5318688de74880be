//! Requests and the exact bytes of their replies, which Redis 7.0 gives too:
//! the `clients` group compares with it.

use crate::bytes::{self, bulk, echo, protocol_error, request};

/// A request, and the reply that a client receives.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
    /// True if the server closes the connection after the reply.
    pub ends: bool,
}

fn row(
    name: &'static str,
    request: impl Into<Vec<u8>>,
    reply: impl Into<Vec<u8>>,
) -> Row {
    let (request, reply) = (request.into(), reply.into());
    Row { name, request, reply, ends: false }
}

fn last(
    name: &'static str,
    request: impl Into<Vec<u8>>,
    reply: impl Into<Vec<u8>>,
) -> Row {
    Row { ends: true, ..row(name, request, reply) }
}

fn broken(name: &'static str, request: impl Into<Vec<u8>>, text: &str) -> Row {
    last(name, request, protocol_error(text))
}

/// Returns all rows.
pub fn rows() -> Vec<Row> {
    [commands(), unknown(), inline(), tolerated(), malformed()].concat()
}

fn commands() -> Vec<Row> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let arity = |name: &str| {
        format!("-ERR wrong number of arguments for '{name}' command\r\n")
    };
    let echo_row = |name, payload: &[u8]| {
        let (request, reply) = echo(payload);
        row(name, request, reply)
    };
    vec![
        row("ping", request(&["PING"]), "+PONG\r\n"),
        row("ping_message", request(&["PING", "hello"]), bulk("hello")),
        row("ping_empty_message", request(&["PING", ""]), bulk("")),
        row("ping_arity", request(&["PING", "a", "b"]), arity("ping")),
        row("lower_case", request(&["ping"]), "+PONG\r\n"),
        row("mixed_case", request(&["eChO", "Case"]), bulk("Case")),
        echo_row("echo", b"hello"),
        echo_row("echo_empty", b""),
        echo_row("echo_every_byte", &every_byte),
        echo_row("echo_line_ends", b"\r\n+PONG\r\n$3\r\n\r\n\0\n\r"),
        row("echo_arity_none", request(&["ECHO"]), arity("echo")),
        row("echo_arity_two", request(&["echo", "a", "b"]), arity("echo")),
        last("quit", request(&["QUIT"]), "+OK\r\n"),
        last("quit_any_arity", request(&["quit", "now"]), "+OK\r\n"),
        row(
            "hello_version_unknown",
            request(&["HELLO", "4"]),
            "-NOPROTO unsupported protocol version\r\n",
        ),
        row(
            "hello_version_no_number",
            request(&["HELLO", "three"]),
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        row(
            "hello_option_unknown",
            request(&["HELLO", "3", "BOGUS"]),
            "-ERR Syntax error in HELLO option 'BOGUS'\r\n",
        ),
        row("client_setname", request(&["CLIENT", "SETNAME", "a"]), "+OK\r\n"),
        row("client_arity", request(&["CLIENT"]), arity("client")),
        row("config_arity", request(&["CONFIG"]), arity("config")),
        row(
            "config_get_arity",
            request(&["CONFIG", "GET"]),
            arity("config|get"),
        ),
    ]
}

fn unknown() -> Vec<Row> {
    let long = "x".repeat(200);
    vec![
        row("unknown", request(&["FOO"]), bytes::unknown("FOO", "")),
        row("unknown_keeps_case", request(&["Foo"]), bytes::unknown("Foo", "")),
        row("unknown_empty", request(&[""]), bytes::unknown("", "")),
        row(
            "unknown_arguments",
            request(&["foo", "a", "b c", ""]),
            bytes::unknown("foo", "'a' 'b c' '' "),
        ),
        row(
            "unknown_line_end",
            request(&["foo", "a\r\nb"]),
            bytes::unknown("foo", "'a  b' "),
        ),
        row(
            "unknown_long_name",
            request(&[long.as_str(), "y"]),
            bytes::unknown(&long, "'y' "),
        ),
        row(
            "unknown_long_argument",
            request(&["foo", &long, "y"]),
            bytes::unknown("foo", &format!("'{}' ", &long[..128])),
        ),
        row(
            "unknown_many_arguments",
            request(&[&["foo"; 1], ["ab"; 60].as_slice()].concat()),
            bytes::unknown("foo", &"'ab' ".repeat(26)),
        ),
    ]
}

fn inline() -> Vec<Row> {
    vec![
        row("inline", "PING\r\n", "+PONG\r\n"),
        row("inline_line_feed", "PING\n", "+PONG\r\n"),
        row("inline_blanks", "  ping \t hello  \r\n", bulk("hello")),
        row("inline_quotes", "ECHO \"hello world\"\r\n", bulk("hello world")),
        row("inline_apostrophes", "ECHO 'a \\n b'\r\n", bulk("a \\n b")),
        row("inline_apostrophe", r#"ECHO 'it\'s "so"'"#.to_owned() + "\n", {
            bulk("it's \"so\"")
        }),
        row(
            "inline_escapes",
            r#"ECHO "\x41\xfF\n\r\t\b\a\"\\\q""#.to_owned() + "\r\n",
            bulk(b"A\xff\n\r\t\x08\x07\"\\q"),
        ),
        row("inline_empty_quotes", "ECHO \"\"\r\n", bulk("")),
        row("inline_carriage_return", "PING\rhello\r\n", bulk("hello")),
        last("inline_quit", "quit\r\n", "+OK\r\n"),
    ]
}

/// Irregular input that Redis tolerates.
fn tolerated() -> Vec<Row> {
    vec![
        row("empty_lines", "\r\n\n\r\nPING\r\n", "+PONG\r\n"),
        row("blank_line", "   \r\nPING\r\n", "+PONG\r\n"),
        row("array_of_minus_one", "*-1\r\nPING\r\n", "+PONG\r\n"),
        row("array_of_none", "*0\r\nPING\r\n", "+PONG\r\n"),
        row("any_two_bytes_end_a_bulk", "*1\r\n$4\r\nPINGxx", "+PONG\r\n"),
    ]
}

fn malformed() -> Vec<Row> {
    let bulk_length = "invalid bulk length";
    let array_length = "invalid multibulk length";
    let quotes = "unbalanced quotes in request";
    let digits = "1".repeat(66_000);
    vec![
        broken("array_length_no_number", "*x\r\n", array_length),
        broken("array_length_missing", "*\r\n", array_length),
        broken("array_length_too_large", "*2147483648\r\n", array_length),
        broken("array_length_blank", "* 1\r\n", array_length),
        broken("array_length_zeros", "*01\r\n", array_length),
        broken("bulk_length_no_number", "*1\r\n$x\r\n", bulk_length),
        broken("bulk_length_missing", "*1\r\n$\r\n", bulk_length),
        broken("bulk_length_negative", "*1\r\n$-1\r\n", bulk_length),
        broken("bulk_length_sign", "*1\r\n$+4\r\n", bulk_length),
        broken("bulk_length_over_limit", "*1\r\n$1048577\r\n", bulk_length),
        broken("no_bulk", "*1\r\nPING\r\n", "expected '$', got 'P'"),
        broken("no_bulk_but_integer", "*1\r\n:1\r\n", "expected '$', got ':'"),
        broken("no_bulk_but_line_end", "*1\r\n\r\n", "expected '$', got ' '"),
        broken("quotes_open", "PING \"a\r\n", quotes),
        broken("quotes_open_single", "PING 'a\r\n", quotes),
        broken("quotes_not_at_end", "PING \"a\"b\r\n", quotes),
        broken("inline_too_big", "x".repeat(66_000), "too big inline request"),
        broken(
            "array_header_too_big",
            format!("*{digits}"),
            "too big mbulk count string",
        ),
        broken(
            "bulk_header_too_big",
            format!("*1\r\n${digits}"),
            "too big bulk count string",
        ),
        // HTTP requests that a browser was tricked into sending get no reply.
        last("http_post", "POST / HTTP/1.1\r\n", ""),
        last("http_host", "Host: localhost\r\n", ""),
    ]
}
