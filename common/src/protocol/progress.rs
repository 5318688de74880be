//! Finds where a request ends, going on where it stopped when more arrives.
//!
//! A request is either a line of words or, if it starts with an asterisk, a
//! count and as many arguments, each behind a header with its length:
//!
//! ```text
//!     PING hello\r\n
//!
//!     *2\r\n  $4\r\n  PING\r\n  $5\r\n  hello\r\n
//!     count   header  argument  header  argument
//! ```
//!
//! Nothing is copied here and nothing kept but a few numbers: the bytes stay
//! wherever the caller has them, from the request's first byte on.

use super::argument::{Request, bulk};
use super::fault::Fault;
use super::inline::is_balanced;
use super::number::{header, integer};

/// The longest line, in bytes, without its end: `\n` or `\r\n` after words,
/// `\r` and a byte after a header. Redis has the same limit.
pub const LINE_MOST: usize = 64 * 1024;

/// The longest header with a valid count of arguments, in bytes.
pub(crate) const COUNT_MOST: usize = "*2147483647\r\n".len();

/// How far one request has been parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Where the line or argument that is looked at starts.
    start: usize,
    /// A line: how far its end was looked for, so that no byte is looked at
    /// twice. An argument: where it ends, the two bytes behind it included.
    end: usize,
    /// Bytes in arguments, as announced so far.
    argument_bytes: usize,
    /// Arguments still to come; 0 until the count is known.
    left: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Line,
    Argument,
}

impl Progress {
    /// The request that `bytes` begin with, and its length, if all of it is
    /// there and nothing about it is unusual, as with nearly all requests.
    /// Else how far it is understood: `advance` goes on from there.
    #[inline(always)]
    pub(crate) fn of(
        bytes: &[u8],
        most: usize,
    ) -> Result<(Request<'_>, usize), Self> {
        // Where all of a request is within the limit, no part is over it.
        let bytes = &bytes[..bytes.len().min(most)];
        let mut known = Self::default();
        let Some((count, length)) = header(bytes, b'*') else {
            return Err(known);
        };
        if count > i32::MAX.into() {
            return Err(known);
        }
        known.left = count as u32;
        known.start = length;
        let mut request = None;
        let mut rest = &bytes[length..];
        while known.left > 0 {
            let Some((argument, after)) = bulk(rest) else {
                known.end = known.start;
                return Err(known);
            };
            known.left -= 1;
            known.start = bytes.len() - after.len();
            known.argument_bytes += argument.len();
            let left = known.left as usize;
            request.get_or_insert(Request::new(argument, left, after));
            rest = after;
        }
        match request {
            Some(request) => Ok((request, known.start)),
            None => Err(Self::default()),
        }
    }

    /// The length of the request that `bytes` begins with, once all of it is
    /// there.
    ///
    /// The next call wants the same bytes again, with more behind them: they
    /// are not looked at again. `most` limits the arguments' bytes and, apart
    /// from them, all the others.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        most: usize,
    ) -> Result<Option<usize>, Fault> {
        if self.left == 0 {
            if bytes.first() != Some(&b'*') {
                return self.words(bytes);
            }
            let bad = (Fault::Count, Fault::LongCount);
            let Some(count) = self.header(bytes, b'*', bad)? else {
                return Ok(None);
            };
            // Redis takes any negative number, but none over a C int's range.
            let count = i32::try_from(count.max(0));
            self.left = count.map_err(|_| Fault::Count)?.unsigned_abs();
        }
        while self.left > 0 {
            if let Stage::Line = self.stage {
                let bad = (Fault::Length, Fault::LongLength);
                let Some(length) = self.header(bytes, b'$', bad)? else {
                    return Ok(None);
                };
                self.announce(length, most)?;
            }
            if bytes.len() < self.end {
                return Ok(None);
            }
            self.start = self.end;
            self.stage = Stage::Line;
            self.left -= 1;
        }
        Ok(Some(self.start))
    }

    /// Where the argument ends that is to come next, as far as its length is
    /// known.
    pub(crate) fn announced(&self) -> usize {
        self.end
    }

    /// Finds the end of an inline request.
    fn words(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(line) = self.line(bytes, b'\n', Fault::LongWords)? else {
            return Ok(None);
        };
        if is_balanced(line) {
            Ok(Some(self.start))
        } else {
            Err(Fault::Unbalanced)
        }
    }

    /// The number on the header that starts at `start`, once its end is there;
    /// `start` is then behind it. `bad` is what it is called if it is no
    /// number, and if it is too long.
    #[inline(always)]
    fn header(
        &mut self,
        bytes: &[u8],
        mark: u8,
        bad: (Fault, Fault),
    ) -> Result<Option<i64>, Fault> {
        if let Some((number, length)) = header(&bytes[self.start..], mark) {
            self.start += length;
            self.end = self.start;
            return Ok(Some(number));
        }
        let (no_number, too_long) = bad;
        let Some(line) = self.line(bytes, b'\r', too_long)? else {
            return Ok(None);
        };
        let Some(digits) = line.strip_prefix(&[mark]) else {
            // An empty line shows the first byte of its end.
            let found = line.first().copied().unwrap_or(b'\r');
            return Err(Fault::NoHeader(found));
        };
        integer(digits.iter().copied()).map(Some).ok_or(no_number)
    }

    /// The line that starts at `start`, once its end is there; `start` is then
    /// behind it.
    ///
    /// A line of words ends with `\n` or `\r\n`, a header with `\r` and
    /// whatever byte follows. A NUL ends no line but hides its end: Redis looks
    /// for it with strchr(3), which stops there, so that only the limit ends
    /// the wait.
    fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        last: u8,
        too_long: Fault,
    ) -> Result<Option<&'a [u8]>, Fault> {
        let unseen = &bytes[self.end..];
        let found = unseen.iter().position(|byte| *byte == last || *byte == 0);
        self.end += found.unwrap_or(unseen.len());
        let ended = bytes.get(self.end) == Some(&last);
        let end = if ended { self.end } else { bytes.len() };
        let line = &bytes[self.start..end];
        // A `\r` belongs to the line only once a byte other than `\n` follows,
        // so it is not counted while it is the last byte.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LINE_MOST {
            return Err(too_long);
        }
        let after = self.end + if last == b'\r' { 2 } else { 1 };
        if !ended || bytes.len() < after {
            return Ok(None);
        }
        (self.start, self.end) = (after, after);
        Ok(Some(line))
    }

    /// Adds the length of the argument that starts now.
    #[inline]
    fn announce(&mut self, length: i64, most: usize) -> Result<(), Fault> {
        let length = usize::try_from(length).map_err(|_| Fault::Length)?;
        self.argument_bytes = self.argument_bytes.saturating_add(length);
        if self.argument_bytes > most {
            return Err(Fault::Length);
        }
        self.end = self.start.saturating_add(length).saturating_add(2);
        if self.end - self.argument_bytes > most {
            return Err(Fault::Count);
        }
        self.stage = Stage::Argument;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes looked at, for an end of line or beyond, to find the end of a
    /// request that arrives in pieces of some size.
    fn looked_at(request: &[u8], size: usize) -> usize {
        let mut progress = Progress::default();
        let mut looked_at = 0;
        for end in (size..request.len()).step_by(size) {
            let bytes = &request[..end];
            looked_at += bytes.len().saturating_sub(progress.end);
            assert_eq!(progress.advance(bytes, usize::MAX), Ok(None));
        }
        looked_at += request.len().saturating_sub(progress.end);
        let found = progress.advance(request, usize::MAX);
        assert_eq!(found, Ok(Some(request.len())));
        looked_at
    }

    #[test]
    fn no_byte_is_looked_at_twice() {
        let line = [&[b'x'; LINE_MOST][..], b"\r\n"].concat();
        let many = [&b"*9999\r\n"[..], &b"$1\r\nx\r\n".repeat(9999)].concat();
        let long = format!("*1\r\n$60000\r\n{:60000}\r\n", "");
        for request in [&line, &many, &long.into_bytes()] {
            for size in [1, 2, 3, 100, 10_000] {
                let looked_at = looked_at(request, size);
                assert!(looked_at <= request.len(), "{looked_at} by {size}");
            }
        }
    }
}
