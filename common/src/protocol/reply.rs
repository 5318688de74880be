//! Replies on the wire, in RESP2 and RESP3.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use super::argument::Argument;
use super::number::Decimal;

/// The version of the protocol that a client asked for with HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// RESP2, the default.
    Two = 2,
    /// RESP3, with maps, verbatim strings and a null type.
    Three = 3,
}

/// A destination of replies. One without room takes nothing more, and reports
/// that at its end.
pub(crate) trait Reply {
    fn put(&mut self, bytes: &[u8]);

    /// Announces how many bytes will be put, in parts, so that memory grows
    /// once.
    fn expect(&mut self, bytes: usize);

    /// Writes the header of an array, an integer or a bulk string: a mark and a
    /// number.
    #[inline]
    fn head(&mut self, mark: u8, number: u64) {
        let decimal = Decimal::new(number);
        let digits = decimal.digits();
        let mut line = [0; 1 + Decimal::MOST + 2];
        let end = 1 + digits.len();
        line[0] = mark;
        line[1..end].copy_from_slice(digits);
        line[end..end + 2].copy_from_slice(b"\r\n");
        self.put(&line[..end + 2]);
    }

    fn number(&mut self, number: i64) {
        if number < 0 {
            self.put(b":");
            self.head(b'-', number.unsigned_abs());
        } else {
            self.head(b':', number.unsigned_abs());
        }
    }

    fn array(&mut self, length: usize) {
        self.head(b'*', length as u64);
    }

    /// `length` pairs.
    fn map(&mut self, length: usize, version: Version) {
        match version {
            Version::Two => self.array(2 * length),
            Version::Three => self.head(b'%', length as u64),
        }
    }

    /// A set of `length` elements.
    fn set(&mut self, length: usize, version: Version) {
        match version {
            Version::Two => self.array(length),
            Version::Three => self.head(b'~', length as u64),
        }
    }

    fn null(&mut self, version: Version) {
        self.put(match version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    fn status(&mut self, text: &str) {
        self.put(b"+");
        self.put(text.as_bytes());
        self.put(b"\r\n");
    }

    /// `text` starts with the error's code, mostly ERR.
    fn error(&mut self, text: &str) {
        self.put(b"-");
        self.put(text.as_bytes());
        self.put(b"\r\n");
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.expect(1 + Decimal::MOST + 2 + bytes.len() + 2);
        self.head(b'$', bytes.len() as u64);
        self.put(bytes);
        self.put(b"\r\n");
    }

    fn argument(&mut self, argument: Argument<'_>) {
        match argument {
            Argument::Plain(bytes) => self.bulk(bytes),
            Argument::Quoted(_) => {
                self.head(b'$', argument.bytes().count() as u64);
                self.put_each(argument.bytes());
                self.put(b"\r\n");
            }
        }
    }

    /// A text for people, as a verbatim string.
    fn verbatim(&mut self, text: &[u8], version: Version) {
        match version {
            Version::Two => self.bulk(text),
            Version::Three => {
                self.head(b'=', text.len() as u64 + 4);
                self.put(b"txt:");
                self.put(text);
                self.put(b"\r\n");
            }
        }
    }

    fn put_each(&mut self, bytes: impl Iterator<Item = u8>) {
        let mut batch = [0; 64];
        let mut length = 0;
        for byte in bytes {
            batch[length] = byte;
            length += 1;
            if length == batch.len() {
                self.put(&batch);
                length = 0;
            }
        }
        self.put(&batch[..length]);
    }

    /// Writes bytes of the client's input within an error. An error is one
    /// line, so line ends become spaces.
    fn shown(&mut self, bytes: impl Iterator<Item = u8>) {
        self.put_each(bytes.map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            other => other,
        }));
    }
}
