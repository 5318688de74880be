//! The cost of a request without any I/O: `cargo bench -p common`.
//!
//! The yardstick is `plain`, a parser for complete multibulk requests in one
//! slice, which answers PING and ECHO. A session, which continues wherever the
//! input was cut, must be as fast with pipelined PINGs.

use std::hint::black_box;

use common::{About, Session};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

/// The most that models pass at once.
const CHUNK: usize = 16 * 1024;
const MAX_REQUEST: usize = 8 * 1024 * 1024;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn main() {
    divan::main();
}

/// As many whole requests as fit into a chunk, and their number.
fn pipelined(requests: &[&[u8]]) -> (Vec<u8>, usize) {
    let once = requests.concat();
    let times = CHUNK / once.len();
    (once.repeat(times), times * requests.len())
}

/// Feeds one session the same pieces again and again.
fn feed(bencher: Bencher<'_, '_>, input: &[u8], size: usize, items: usize) {
    let about = About::new("bench", "");
    let mut session = Session::new(1, MAX_REQUEST);
    let mut output = Vec::with_capacity(input.len() * 2 + CHUNK * 64);
    bencher
        .counter(ItemsCount::new(items))
        .counter(BytesCount::new(input.len()))
        .bench_local(|| {
            output.clear();
            let mut completed = 0;
            for piece in black_box(input).chunks(size) {
                completed += session.answer(piece, &about, &mut output);
            }
            assert_eq!(completed, items);
            black_box(&output);
        });
}

mod pings {
    use super::*;

    #[divan::bench]
    fn session(bencher: Bencher<'_, '_>) {
        let (input, items) = pipelined(&[PING]);
        feed(bencher, &input, CHUNK, items);
    }

    /// Each chunk starts and ends within a request.
    #[divan::bench]
    fn session_cut(bencher: Bencher<'_, '_>) {
        let input = PING.repeat(CHUNK);
        feed(bencher, &input, CHUNK - 1, CHUNK);
    }

    #[divan::bench]
    fn session_inline(bencher: Bencher<'_, '_>) {
        let (input, items) = pipelined(&[b"PING\r\n"]);
        feed(bencher, &input, CHUNK, items);
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        let (input, items) = pipelined(&[PING]);
        let mut output = Vec::with_capacity(CHUNK * 2);
        bencher
            .counter(ItemsCount::new(items))
            .counter(BytesCount::new(input.len()))
            .bench_local(|| {
                output.clear();
                let completed = plain::answer(black_box(&input), &mut output);
                assert_eq!(completed, items);
                black_box(&output);
            });
    }
}

/// The cost of a byte must not depend on how many there are, nor on how they
/// are cut.
mod echo {
    use super::*;

    const SIZES: [usize; 2] = [1024 * 1024, 4 * 1024 * 1024];

    fn request(size: usize) -> Vec<u8> {
        let mut request = format!("*2\r\n$4\r\nECHO\r\n${size}\r\n");
        request.extend(std::iter::repeat_n('x', size));
        request.push_str("\r\n");
        request.into_bytes()
    }

    #[divan::bench(args = SIZES)]
    fn in_chunks(bencher: Bencher<'_, '_>, size: usize) {
        feed(bencher, &request(size), CHUNK, 1);
    }

    #[divan::bench(args = SIZES, sample_count = 20)]
    fn byte_by_byte(bencher: Bencher<'_, '_>, size: usize) {
        feed(bencher, &request(size), 1, 1);
    }
}

mod others {
    use super::*;

    #[divan::bench]
    fn info(bencher: Bencher<'_, '_>) {
        let (input, items) = pipelined(&[b"*1\r\n$4\r\nINFO\r\n"]);
        feed(bencher, &input, CHUNK, items);
    }

    #[divan::bench]
    fn mixed(bencher: Bencher<'_, '_>) {
        let (input, items) = pipelined(&[
            PING,
            b"*2\r\n$4\r\nECHO\r\n$11\r\nhello world\r\n",
            b"PING 'hello world'\r\n",
            b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n",
            b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n",
            b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
        ]);
        feed(bencher, &input, CHUNK, items);
    }
}

/// The yardstick: whole requests only, no limits, no quoting, no RESP3.
mod plain {
    pub(super) fn answer(input: &[u8], output: &mut Vec<u8>) -> usize {
        let mut rest = input;
        let mut completed = 0;
        while let Some(after) = request(rest, output) {
            rest = after;
            completed += 1;
        }
        completed
    }

    fn request<'a>(input: &'a [u8], output: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (count, mut rest) = number(input, b'*')?;
        let mut arguments: [&[u8]; 4] = [&[]; 4];
        for place in arguments.get_mut(..count)? {
            let (length, after) = number(rest, b'$')?;
            *place = after.get(..length)?;
            rest = after.get(length + 2..)?;
        }
        match arguments[..count] {
            [name] if name.eq_ignore_ascii_case(b"PING") => {
                output.extend_from_slice(b"+PONG\r\n");
            }
            [name, message] if name.eq_ignore_ascii_case(b"ECHO") => {
                let head = format!("${}\r\n", message.len());
                output.extend_from_slice(head.as_bytes());
                output.extend_from_slice(message);
                output.extend_from_slice(b"\r\n");
            }
            _ => output.extend_from_slice(b"-ERR unknown command\r\n"),
        }
        Some(rest)
    }

    fn number(input: &[u8], mark: u8) -> Option<(usize, &[u8])> {
        let (first, rest) = input.split_first()?;
        if *first != mark {
            return None;
        }
        let end = rest.iter().position(|byte| *byte == b'\r')?;
        let mut number = 0_usize;
        for byte in &rest[..end] {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            number = number * 10 + usize::from(digit);
        }
        Some((number, rest.get(end + 2..)?))
    }
}
