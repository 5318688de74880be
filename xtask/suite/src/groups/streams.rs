//! Random streams of requests, for a Redis and a server to answer alike.
//!
//! They hold only what both know: the commands that are part of the service
//! and have one right reply, and names that nobody knows. INFO, HELLO, COMMAND,
//! CONFIG and CLIENT tell of the server, and differ.

use fastrand::Rng;

use crate::bytes::request;

/// Makes requests that are all well-formed, if not all sensible.
pub fn valid(random: &mut Rng) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.usize(1..12) {
        let words = words(random);
        if random.u8(..4) == 0 {
            stream.extend(inline(random, &words));
        } else {
            stream.extend(request(&words));
        }
        if random.u8(..16) == 0 {
            stream.extend_from_slice(b"\r\n");
        }
    }
    stream
}

/// Makes such requests with some bytes changed, put in, left out or doubled.
pub fn mutated(random: &mut Rng) -> Vec<u8> {
    /// Bytes with a meaning.
    const SPECIAL: &[u8] = b"*$\r\n 0123456789-+\"'\\x:";

    let mut stream = valid(random);
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..stream.len());
        let byte = match random.u8(..4) {
            // Inline, what stands behind a zero byte does not exist for
            // Redis, which takes lines for C strings.
            0 => random.u8(1..),
            _ => SPECIAL[random.usize(..SPECIAL.len())],
        };
        match random.u8(..5) {
            0 => stream[at] = byte,
            1 => stream.insert(at, byte),
            2 if stream.len() > 1 => drop(stream.remove(at)),
            3 => {
                let end = (at + random.usize(1..20)).min(stream.len());
                let piece = stream[at..end].to_vec();
                stream.splice(at..at, piece);
            }
            _ => stream.truncate(at.max(1)),
        }
    }
    stream
}

/// A command and its arguments.
fn words(random: &mut Rng) -> Vec<Vec<u8>> {
    const NAMES: &[&str] =
        &["PING", "ping", "ECHO", "eChO", "FOO", "bar", "x", "", "GE", "PINGX"];
    let name = match random.u8(..50) {
        0 => "QUIT",
        _ => NAMES[random.usize(..NAMES.len())],
    };
    let mut words = vec![name.as_bytes().to_vec()];
    for _ in 0..random.usize(..4) {
        words.push(argument(random));
    }
    words
}

fn argument(random: &mut Rng) -> Vec<u8> {
    let length = match random.u8(..8) {
        0 => 0,
        1 => random.usize(100..300),
        _ => random.usize(1..12),
    };
    let printable = random.bool();
    let byte = |random: &mut Rng| match printable {
        true => random.u8(b' '..=b'~'),
        false => random.u8(1..),
    };
    (0..length).map(|_| byte(random)).collect()
}

/// The words in one line, quoted in one of the ways that there are.
fn inline(random: &mut Rng, words: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::new();
    for (number, word) in words.iter().enumerate() {
        if number > 0 {
            line.extend_from_slice(if random.bool() { b" " } else { b"  \t" });
        }
        line.push(b'"');
        for byte in word {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
                _ if random.u8(..8) == 0 => {
                    line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                }
                _ => line.push(*byte),
            }
        }
        line.push(b'"');
    }
    line.extend_from_slice(if random.bool() { b"\r\n" } else { b"\n" });
    line
}
