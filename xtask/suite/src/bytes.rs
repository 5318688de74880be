//! Bytes for people to read, and for cases to send.

/// Bytes of a long string that are shown, at either end.
const SHOWN: usize = 64;

/// Writes bytes in ASCII; long strings are cut.
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

/// Tells where two strings part, and what each has there.
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

/// Makes a request as clients send it: an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend(bulk(argument));
    }
    request
}

/// Makes a bulk string.
pub fn bulk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut bulk = format!("${}\r\n", bytes.len()).into_bytes();
    bulk.extend_from_slice(bytes);
    bulk.extend_from_slice(b"\r\n");
    bulk
}

/// Makes `ECHO payload`, and its reply.
pub fn echo(payload: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    let payload = payload.as_ref();
    (request(&[b"ECHO".as_slice(), payload]), bulk(payload))
}

/// Makes many ECHO requests in one string, and their replies, every one
/// different: a lost, doubled or swapped piece shows.
pub fn echoes(count: usize, size: usize) -> (Vec<u8>, Vec<u8>) {
    joined((0..count).map(|number| echo(payload(number, size))))
}

/// Joins many requests to one string, and their replies to another.
pub fn joined(
    pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
) -> (Vec<u8>, Vec<u8>) {
    let (requests, replies): (Vec<_>, Vec<_>) = pairs.unzip();
    (requests.concat(), replies.concat())
}

/// Makes a payload of `size` bytes that no other `number` has, with no period
/// that a buffer's size could hide.
pub fn payload(number: usize, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut payload = format!("{number}:").into_bytes();
    payload.resize_with(size.max(payload.len()), || random.u8(..));
    payload
}

/// Makes the reply to a command that does not exist. It shows a part of the
/// command's name, and of its `arguments`, which are quoted and cut already.
pub fn unknown(name: &str, arguments: &str) -> String {
    let name = &name[..name.len().min(128)];
    format!(
        "-ERR unknown command '{name}', \
         with args beginning with: {arguments}\r\n"
    )
}

/// Makes the reply to what is no request.
pub fn protocol_error(text: &str) -> String {
    format!("-ERR Protocol error: {text}\r\n")
}

/// Makes short requests, and the long replies to them: names that no command
/// has, every one different. They multiply what a client sends by eleven.
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
        // Too short for its number: the number is what tells them apart.
        assert_eq!(payload(123, 2), b"123:");
    }
}
