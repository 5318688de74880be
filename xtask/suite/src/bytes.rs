//! Formats bytes for people, and builds requests and replies for cases.

/// The number of bytes of a long string that are shown at either end.
const SHOWN: usize = 64;

/// Formats bytes as an escaped ASCII string; long strings are cut.
pub fn show(bytes: &[u8]) -> String {
    if bytes.len() <= 2 * SHOWN {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let (head, tail) = (&bytes[..SHOWN], &bytes[bytes.len() - SHOWN..]);
    format!(
        "\"{}\" ... \"{}\" ({} bytes)",
        head.escape_ascii(),
        tail.escape_ascii(),
        bytes.len()
    )
}

/// Describes where two byte strings differ, and what each has there.
pub fn difference(expected: &[u8], seen: &[u8]) -> String {
    let same = expected.iter().zip(seen).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(16);
    let part = |bytes: &[u8]| {
        let end = bytes.len().min(same + SHOWN);
        format!(
            "\"{}\"{}",
            bytes[from..end].escape_ascii(),
            if end < bytes.len() { " ..." } else { "" }
        )
    };
    format!(
        "same up to byte {same}; from byte {from} on\n  \
         expected ({} bytes) {}\n  \
         seen     ({} bytes) {}",
        expected.len(),
        part(expected),
        seen.len(),
        part(seen)
    )
}

/// Encodes a request the way clients send it: as an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend(bulk(argument));
    }
    request
}

/// Encodes a bulk string.
pub fn bulk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut bulk = format!("${}\r\n", bytes.len()).into_bytes();
    bulk.extend_from_slice(bytes);
    bulk.extend_from_slice(b"\r\n");
    bulk
}

/// Builds the request `ECHO payload`, and its reply.
pub fn echo(payload: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    let payload = payload.as_ref();
    (request(&[b"ECHO".as_slice(), payload]), bulk(payload))
}

/// Builds `count` ECHO requests in one string, and their replies in another.
/// Every payload is different, so a lost, duplicated or swapped piece is
/// detected.
pub fn echoes(count: usize, size: usize) -> (Vec<u8>, Vec<u8>) {
    joined((0..count).map(|number| echo(payload(number, size))))
}

/// Concatenates many requests into one string, and their replies into another.
pub fn joined(
    pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
) -> (Vec<u8>, Vec<u8>) {
    let (requests, replies): (Vec<_>, Vec<_>) = pairs.unzip();
    (requests.concat(), replies.concat())
}

/// Builds a payload of `size` bytes that is different for every `number`. The
/// bytes have no period, so a shift by the size of some buffer is detected.
pub fn payload(number: usize, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut payload = format!("{number}:").into_bytes();
    payload.resize_with(size.max(payload.len()), || random.u8(..));
    payload
}

/// Builds the reply to a command that does not exist. It shows up to 128 bytes
/// of the command's name, and `arguments`, which are quoted and cut already.
pub fn unknown(name: &str, arguments: &str) -> String {
    let name = &name[..name.len().min(128)];
    format!(
        "-ERR unknown command '{name}', \
         with args beginning with: {arguments}\r\n"
    )
}

/// Builds the reply to a malformed request.
pub fn protocol_error(text: &str) -> String {
    format!("-ERR Protocol error: {text}\r\n")
}

/// Builds short requests for unknown commands, every name different, and the
/// replies to them, which are about ten times as long.
pub fn unknowns(count: usize) -> (Vec<u8>, Vec<u8>) {
    joined((0..count).map(|number| {
        let name = format!("x{number:04x}");
        let reply = unknown(&name, "");
        (format!("{name}\n").into_bytes(), reply.into_bytes())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_with_its_place() {
        let expected = [&[b'a'; 100][..], b"\r\nb"].concat();
        let told = difference(&expected, &[b'a'; 101]);
        assert!(told.starts_with("same up to byte 100;"), "{told}");
        assert!(
            told.contains(r#"expected (103 bytes) "aaaaaaaaaaaaaaaa\r\nb""#)
        );
        assert!(told.contains(r#"seen     (101 bytes) "aaaaaaaaaaaaaaaaa""#));
    }

    #[test]
    fn payloads_differ() {
        assert_eq!(payload(7, 40).len(), 40);
        assert_eq!(payload(7, 40), payload(7, 40));
        assert_ne!(payload(7, 40)[2..], payload(8, 40)[2..]);
        // The number does not fit, but it still distinguishes the payloads.
        assert_eq!(payload(123, 2), b"123:");
    }
}
