//! Random streams of requests, which Redis and a server must answer alike.
//!
//! They contain only what has the same reply from both: the commands of the
//! service that have one right reply, and unknown names. INFO, HELLO, COMMAND,
//! CONFIG and CLIENT describe the server, so their replies differ.

use fastrand::Rng;

use crate::bytes::request;

/// Generates requests that are all well-formed, though not all valid commands.
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

/// Generates such requests with some bytes changed, inserted, removed or
/// duplicated.
pub fn mutated(random: &mut Rng) -> Vec<u8> {
    /// Bytes that have a meaning in the protocol.
    const SPECIAL: &[u8] = b"*$\r\n 0123456789-+\"'\\x:";

    let mut stream = valid(random);
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..stream.len());
        let byte = match random.u8(..4) {
            // No zero byte: Redis treats the line of an inline request as a C
            // string and ignores what follows a zero.
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

/// Generates a command and its arguments.
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

/// Encodes the words in one line, with a random choice of the quoting rules.
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
