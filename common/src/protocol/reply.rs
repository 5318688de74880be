//! Replies on the wire, in RESP2 and RESP3.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use super::argument::Argument;
use super::fault::Fault;
use super::number::Decimal;

/// The version of the protocol that a client asked for with HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// RESP2, as long as the client doesn't ask.
    Two = 2,
    /// RESP3: has maps, verbatim strings and a null of its own.
    Three = 3,
}

/// Where replies go: one that has no room takes nothing more and says so.
pub(crate) trait Reply {
    fn put(&mut self, bytes: &[u8]);

    /// So many bytes are about to be put, in parts. Memory that grows by parts
    /// grows twice, the second time by as much again for the last two bytes.
    fn expect(&mut self, bytes: usize);

    /// What starts an array, an integer, a bulk string: its mark, a number.
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

    /// `length` things in no order.
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

    /// Text for people to look at, within a client's reach.
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

    /// Bytes of the client's within an error: an error is one line, so their
    /// line ends become spaces.
    fn shown(&mut self, bytes: impl Iterator<Item = u8>) {
        self.put_each(bytes.map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            other => other,
        }));
    }
}

/// One reply in memory that grows.
pub(crate) struct Growing<'a> {
    output: &'a mut Vec<u8>,
    /// Where the reply starts, behind earlier ones.
    start: usize,
    /// More memory was asked for and refused.
    refused: bool,
}

impl<'a> Growing<'a> {
    pub(crate) fn new(output: &'a mut Vec<u8>) -> Self {
        let start = output.len();
        Self { output, start, refused: false }
    }

    /// Ends the reply; takes all of it back if there was no memory for it.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if self.refused {
            self.output.truncate(self.start);
            return Err(Fault::NoMemory);
        }
        Ok(())
    }
}

impl Reply for Growing<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.refused || self.output.try_reserve(bytes.len()).is_err() {
            self.refused = true;
            return;
        }
        self.output.extend_from_slice(bytes);
    }

    fn expect(&mut self, bytes: usize) {
        self.refused |= self.output.try_reserve(bytes).is_err();
    }
}

/// Replies in memory that doesn't.
pub(crate) struct Fixed<'a> {
    space: &'a mut [u8],
    length: usize,
    /// Something did not fit.
    pub(crate) overflowed: bool,
}

impl<'a> Fixed<'a> {
    pub(crate) fn new(space: &'a mut [u8]) -> Self {
        Self { space, length: 0, overflowed: false }
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.space[..self.length]
    }
}

impl Reply for Fixed<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        match self.space.get_mut(self.length..end) {
            Some(place) if !self.overflowed => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            _ => self.overflowed = true,
        }
    }

    fn expect(&mut self, _: usize) {}
}
