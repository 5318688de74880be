//! Every limit of the parser, one below, at and above it, with the input cut
//! where it could matter.

mod table;

use common::answer_datagram;
use common::protocol::LINE_MOST;
use table::{Outcome, about, feed_with};

const MIB: usize = 1024 * 1024;

const LONG_WORDS: &str = "-ERR Protocol error: too big inline request\r\n";
const LONG_COUNT: &str = "-ERR Protocol error: too big mbulk count string\r\n";
const LONG_LENGTH: &str = "-ERR Protocol error: too big bulk count string\r\n";
const BAD_COUNT: &str = "-ERR Protocol error: invalid multibulk length\r\n";
const BAD_LENGTH: &str = "-ERR Protocol error: invalid bulk length\r\n";
const PONG: &str = "+PONG\r\n";

/// Number of a stream's last bytes between which it is cut.
const END: usize = 16;

/// Feeds a stream whole, cut once at each of its last bytes, with these byte
/// by byte, and in chunks. Checks that the replies are the same each time.
fn feed(max_request: usize, stream: &[u8]) -> Outcome {
    let whole = feed_with(max_request, [stream]);
    let (start, end) = stream.split_at(stream.len().saturating_sub(END));
    let name = format!("{} bytes, ... {}", stream.len(), end.escape_ascii());
    for at in start.len()..stream.len() {
        let (first, second) = stream.split_at(at);
        let cut = feed_with(max_request, [first, second]);
        assert_eq!(cut, whole, "{name}: cut at {at}");
    }
    let by_byte = [start].into_iter().chain(end.chunks(1));
    assert_eq!(feed_with(max_request, by_byte), whole, "{name}: byte by byte");
    let in_chunks = stream.chunks(4096);
    assert_eq!(feed_with(max_request, in_chunks), whole, "{name}: in chunks");
    whole
}

/// Checks what a session says to a stream, and that it goes on unless that is
/// a protocol error.
fn check(max_request: usize, stream: &[u8], expected: &str) {
    let found = feed(max_request, stream);
    let end = &stream[stream.len().saturating_sub(END)..];
    let name = format!("{} bytes, ... {}", stream.len(), end.escape_ascii());
    let start =
        |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
    let expected = expected.as_bytes();
    assert_eq!(start(&found.output), start(expected), "{name}");
    assert!(found.output == expected, "{name}: the reply's end differs");
    let fault = expected.starts_with(b"-ERR Protocol error");
    assert_eq!(found.open, !fault, "{name}");
}

/// The reply to a name that no command has, of which 128 bytes are shown.
fn unknown(length: usize) -> String {
    let shown = "x".repeat(length.min(128));
    format!("-ERR unknown command '{shown}', with args beginning with: \r\n")
}

#[test]
fn lines_of_words() {
    for length in [LINE_MOST - 1, LINE_MOST, LINE_MOST + 1] {
        let line = vec![b'x'; length];
        let fits = length <= LINE_MOST;
        for end in ["\n", "\r\n"] {
            let reply = unknown(length) + PONG;
            let stream = [&line, end.as_bytes(), b"PING\r\n"].concat();
            check(256, &stream, if fits { &reply } else { LONG_WORDS });
            check(
                256,
                &stream[..length + end.len()],
                match fits {
                    true => &reply[..reply.len() - PONG.len()],
                    false => LONG_WORDS,
                },
            );
        }
        // Without its end, or with half of it.
        for end in ["", "\r"] {
            let stream = [&line, end.as_bytes()].concat();
            check(256, &stream, if fits { "" } else { LONG_WORDS });
        }
    }
}

/// A carriage return that no line feed follows is part of the line.
#[test]
fn returns_within_a_line_of_words() {
    for (length, returns, after) in [
        (LINE_MOST - 1, "\r", ""),
        (LINE_MOST - 2, "\r\r", ""),
        (LINE_MOST - 2, "\r", "x"),
    ] {
        for more in [0, 1] {
            let words = "x".repeat(length + more);
            let line = format!("{words}{returns}{after}");
            let fits = line.len() <= LINE_MOST;
            let mut reply = unknown(length);
            if !after.is_empty() {
                reply = reply.replace(": \r\n", ": 'x' \r\n");
            }
            let reply = if fits { &reply } else { LONG_WORDS };
            check(256, (line.clone() + "\r\n").as_bytes(), reply);
            let unended = if fits { "" } else { LONG_WORDS };
            // One that comes last may be half an end.
            let unended = if after.is_empty() { "" } else { unended };
            check(256, line.as_bytes(), unended);
        }
    }
}

/// A quoted word counts as it was sent, not as the bytes it stands for.
#[test]
fn quoted_words() {
    for length in [LINE_MOST - 1, LINE_MOST, LINE_MOST + 1] {
        let quoted = "\\x41".repeat((length - 20) / 4);
        let rest = "B".repeat(length - quoted.len() - "ECHO \"\"".len());
        let line = format!("ECHO \"{quoted}{rest}\"");
        assert_eq!(line.len(), length);
        let message = "A".repeat(quoted.len() / 4) + &rest;
        let reply = format!("${}\r\n{message}\r\n", message.len());
        let fits = length <= LINE_MOST;
        for end in ["\n", "\r\n"] {
            let stream = format!("{line}{end}");
            let reply = if fits { &reply } else { LONG_WORDS };
            check(256, stream.as_bytes(), reply);
        }
    }
}

#[test]
fn headers() {
    for (before, mark, too_long, no_number) in [
        ("", '*', LONG_COUNT, BAD_COUNT),
        ("*1\r\n", '$', LONG_LENGTH, BAD_LENGTH),
    ] {
        for length in [LINE_MOST - 1, LINE_MOST, LINE_MOST + 1] {
            let fits = length <= LINE_MOST;
            let line = format!("{before}{mark}{}", "1".repeat(length - 1));
            for end in ["\r\n", "\rx"] {
                let stream = format!("{line}{end}");
                let reply = if fits { no_number } else { too_long };
                check(256, stream.as_bytes(), reply);
            }
            for end in ["", "\r"] {
                let stream = format!("{line}{end}");
                let reply = if fits { "" } else { too_long };
                check(256, stream.as_bytes(), reply);
            }
        }
    }
}

/// A NUL hides the end of its line, so only the limit ends the wait for it.
#[test]
fn lines_with_a_nul() {
    for (start, too_long) in [
        ("x\0\n", LONG_WORDS),
        ("*1\0\r\n", LONG_COUNT),
        ("*1\r\n$1\0\r\n", LONG_LENGTH),
    ] {
        let before = if start.starts_with("*1\r") { "*1\r\n".len() } else { 0 };
        for length in [LINE_MOST - 1, LINE_MOST, LINE_MOST + 1] {
            let rest = "x".repeat(before + length - start.len());
            let stream = start.to_owned() + &rest;
            let fits = length <= LINE_MOST;
            check(256, stream.as_bytes(), if fits { "" } else { too_long });
        }
    }
}

#[test]
fn counts() {
    for (count, expected) in [
        ("-9223372036854775809", BAD_COUNT),
        ("-9223372036854775808", PONG),
        ("-1", PONG),
        ("0", PONG),
        ("2147483646", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        ("2147483647", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        ("2147483648", BAD_COUNT),
        ("9223372036854775807", BAD_COUNT),
        ("9223372036854775808", BAD_COUNT),
    ] {
        let stream = format!("*{count}\r\nPING\r\n");
        check(MIB, stream.as_bytes(), expected);
    }
    // As many arguments as announced, no more and no less.
    for count in 1..4 {
        for sent in 1..4 {
            let arguments = "$1\r\nx\r\n".repeat(sent);
            let reply = "-ERR unknown command 'x', with args beginning with: "
                .to_owned()
                + &"'x' ".repeat(count - 1)
                + "\r\n";
            let stream = format!("*{count}\r\n{arguments}");
            let reply = if sent < count { "" } else { &reply };
            let found = feed(MIB, stream.as_bytes());
            let output = String::from_utf8(found.output).unwrap();
            assert!(output.starts_with(reply), "{count}, {sent}: {output}");
            assert_eq!(found.completed > 0, sent >= count, "{count}, {sent}");
        }
    }
}

/// One argument has all of the limit for itself.
#[test]
fn lengths() {
    for most in [99, 100, 256, 99_999, 100_000] {
        for length in [most - 1, most, most + 1] {
            let fits = length <= most;
            let header = format!("*1\r\n${length}\r\n");
            let reply = if fits { "" } else { BAD_LENGTH };
            check(most, header.as_bytes(), reply);
            let stream = header + &"x".repeat(length) + "\r\nPING\r\n";
            let reply = unknown(length) + PONG;
            let reply = if fits { &reply } else { BAD_LENGTH };
            check(most, stream.as_bytes(), reply);
        }
    }
    for length in [
        "-1",
        "99999999999999999",
        "999999999999999999",
        "1000000000000000000",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
    ] {
        let stream = format!("*1\r\n${length}\r\n");
        check(MIB, stream.as_bytes(), BAD_LENGTH);
    }
}

#[test]
fn lengths_together() {
    let most = 1000;
    for sum in [most - 1, most, most + 1] {
        let fits = sum <= most;
        let last = sum - "ECHO".len() - 500;
        let header =
            format!("*3\r\n$4\r\nECHO\r\n$500\r\n{:500}\r\n${last}\r\n", "");
        check(most, header.as_bytes(), if fits { "" } else { BAD_LENGTH });
        let stream = format!("{header}{:last$}\r\nPING\r\n", "");
        let arity =
            "-ERR wrong number of arguments for 'echo' command\r\n+PONG\r\n";
        check(most, stream.as_bytes(), if fits { arity } else { BAD_LENGTH });
    }
}

/// All that is not in arguments has the same limit once more.
#[test]
fn headers_together() {
    let arguments = 16;
    let stream = "*16\r\n".to_owned() + &"$0\r\n\r\n".repeat(arguments);
    let reply = "-ERR unknown command '', with args beginning with: "
        .to_owned()
        + &"'' ".repeat(arguments - 1)
        + "\r\n";
    for most in [stream.len() + 1, stream.len(), stream.len() - 1] {
        let fits = stream.len() <= most;
        check(most, stream.as_bytes(), if fits { &reply } else { BAD_COUNT });
    }
    // The last header says it all.
    let header = &stream[..stream.len() - 2];
    check(stream.len(), header.as_bytes(), "");
    check(stream.len() - 1, header.as_bytes(), BAD_COUNT);
}

/// The limit on a request does not bound a line of words, nor a header.
#[test]
fn the_smallest_requests() {
    for most in [1, 5, 6, 12, 13, 14, 20] {
        check(most, b"ECHO 0123456789012345678901\r\n", {
            "$22\r\n0123456789012345678901\r\n"
        });
        for (count, too_long) in [
            ("", LONG_COUNT),
            ("*1\r\n", LONG_LENGTH),
            ("*2147483647\r\n", LONG_LENGTH),
        ] {
            let mark = if count.is_empty() { "*" } else { "$" };
            let stream = format!("{count}{mark}{}", "1".repeat(LINE_MOST));
            check(most, stream.as_bytes(), too_long);
            let stream = &stream[..stream.len() - 1];
            check(most, stream.as_bytes(), "");
            let bad = if mark == "*" { BAD_COUNT } else { BAD_LENGTH };
            check(most, format!("{stream}\r\n").as_bytes(), bad);
        }
    }
}

#[test]
fn names() {
    let name = "abcdefghijklmnopqrstuvw";
    for length in [15, 16, 17] {
        let kept = &name[..length.min(16)];
        let stream = format!(
            "CLIENT SETNAME {}\r\nCLIENT GETNAME\r\n",
            &name[..length],
        );
        let reply = format!("+OK\r\n${}\r\n{kept}\r\n", kept.len());
        check(256, stream.as_bytes(), &reply);
    }
    // The bytes that are not kept must be printable too.
    let stream = format!("CLIENT SETNAME {name}\u{7f}\r\n");
    let error = "-ERR Client names cannot contain spaces, \
                 newlines or special characters.\r\n";
    check(256, stream.as_bytes(), error);
}

/// An error shows 128 bytes of the name, and about as many of the arguments:
/// it counts quotes and blanks, but cuts only the text in quotes.
#[test]
fn what_errors_show() {
    for length in [127, 128, 129] {
        let stream = format!("{}\r\n", "x".repeat(length));
        check(256, stream.as_bytes(), &unknown(length));
        let error = |shown: &str| {
            format!(
                "-ERR unknown command 'n', with args beginning with: \
                 {shown}\r\n"
            )
        };
        let (shown, zs) = (length.min(128), "z".repeat(length));
        let stream = format!("n {zs} b\r\n");
        check(256, stream.as_bytes(), &error(&format!("'{}' ", &zs[..shown])));
        // The first argument, its quotes and its blank leave little or nothing.
        let first = length - 3;
        let second = &"bb"[..128_usize.saturating_sub(length).min(2)];
        let second = match second {
            "" => String::new(),
            second => format!("'{second}' "),
        };
        let stream = format!("n {} bb\r\n", &zs[..first]);
        let shown = format!("'{}' {second}", &zs[..first]);
        check(256, stream.as_bytes(), &error(&shown));
    }
}

/// The only limit on a datagram's arguments is Redis's on one of them: they
/// can't be as long, but they can be announced.
#[test]
fn datagrams() {
    let most = 512 * MIB;
    for length in [most - 1, most, most + 1] {
        let mut reply = [0; 64];
        let datagram = format!("*1\r\n${length}\r\n");
        let end = answer_datagram(datagram.as_bytes(), &about(), &mut reply);
        let expected: &[u8] = match length <= most {
            true => b"-ERR incomplete request\r\n",
            false => b"-ERR malformed request\r\n",
        };
        assert_eq!(&reply[..end], expected, "{length}");
    }
}
