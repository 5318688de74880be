//! Inline requests: a line of words, quoted as in a shell, for people with `nc`
//! and for very small clients.
//!
//! Quotes can't be removed in place, and removing them elsewhere requires
//! memory. So a quoted word stays as it arrived, and is decoded byte by byte
//! each time it is read.

/// A quote that isn't closed, or that is closed in the middle of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unbalanced;

/// A word of a line, still in its quotes if it has any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) is_quoted: bool,
}

/// The first word of a line whose end is cut off, and what follows the word;
/// no word if there are only blanks.
pub(crate) fn word(
    line: &[u8],
) -> Result<(Option<Word<'_>>, &[u8]), Unbalanced> {
    let blanks = line.iter().take_while(|byte| is_blank(**byte)).count();
    let line = &line[blanks..];
    let special = |byte: &u8| ends_word(*byte) || is_quote(*byte);
    let length = line.iter().position(special).unwrap_or(line.len());
    if line.get(length).is_some_and(|byte| is_quote(*byte)) {
        let mut unquoted = Unquoted::of(line);
        while unquoted.step()?.is_some() {}
        let (bytes, after) = line.split_at(line.len() - unquoted.rest.len());
        return Ok((Some(Word { bytes, is_quoted: true }), after));
    }
    let (bytes, after) = line.split_at(length);
    let word = Word { bytes, is_quoted: false };
    Ok(((length > 0).then_some(word), after))
}

/// Whether all quotes in a line are closed where words end.
pub(crate) fn is_balanced(line: &[u8]) -> bool {
    let mut rest = line;
    loop {
        match word(rest) {
            Ok((Some(_), after)) => rest = after,
            Ok((None, _)) => return true,
            Err(Unbalanced) => return false,
        }
    }
}

/// The bytes that a quoted word stands for.
#[derive(Clone, Debug)]
pub(crate) struct Unquoted<'a> {
    rest: &'a [u8],
    place: Place,
}

/// Where in a word we are:
///
/// ```text
///            "            "
///     Bare ----> Double ----> Done
///            '            '
///     Bare ----> Single ----> Done
/// ```
///
/// Nothing leads back: a word ends with its closing quote.
#[derive(Clone, Copy, Debug)]
enum Place {
    Bare,
    Double,
    Single,
    Done,
}

impl<'a> Unquoted<'a> {
    pub(crate) fn of(word: &'a [u8]) -> Self {
        Self { rest: word, place: Place::Bare }
    }

    /// The word's next byte; nothing at its end.
    fn step(&mut self) -> Result<Option<u8>, Unbalanced> {
        loop {
            let (meant, taken) = match (self.place, self.rest) {
                (Place::Done, _) | (Place::Bare, []) => return Ok(None),
                (Place::Double | Place::Single, []) => return Err(Unbalanced),
                (Place::Bare, [b'"', ..]) => {
                    self.place = Place::Double;
                    (None, 1)
                }
                (Place::Bare, [b'\'', ..]) => {
                    self.place = Place::Single;
                    (None, 1)
                }
                (Place::Bare, [byte, ..]) if ends_word(*byte) => {
                    return Ok(None);
                }
                (Place::Double, [b'"', after @ ..])
                | (Place::Single, [b'\'', after @ ..]) => {
                    if after.first().is_some_and(|byte| !is_blank(*byte)) {
                        return Err(Unbalanced);
                    }
                    self.place = Place::Done;
                    (None, 1)
                }
                (Place::Double, rest) => unescape(rest),
                (Place::Single, [b'\\', b'\'', ..]) => (Some(b'\''), 2),
                (_, [byte, ..]) => (Some(*byte), 1),
            };
            self.rest = &self.rest[taken..];
            if meant.is_some() {
                return Ok(meant);
            }
        }
    }
}

impl Iterator for Unquoted<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        // A word that became an argument has balanced quotes.
        self.step().ok().flatten()
    }
}

/// Decodes the start of `rest`, within double quotes. Returns the byte, and how
/// long that start is.
fn unescape(rest: &[u8]) -> (Option<u8>, usize) {
    match rest {
        [b'\\', b'x', high, low, ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => (Some(high * 16 + low), 4),
            _ => (Some(b'x'), 2),
        },
        [b'\\', letter, ..] => {
            let meant = match letter {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 0x08,
                b'a' => 0x07,
                other => *other,
            };
            (Some(meant), 2)
        }
        _ => (rest.first().copied(), 1),
    }
}

fn hex(digit: u8) -> Option<u8> {
    // At most 15, as the radix is 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn is_quote(byte: u8) -> bool {
    byte == b'"' || byte == b'\''
}

/// Blanks separate words, all six that isspace(3) knows; but only four of
/// them end a word without quotes.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let mut rest = line;
        let mut found = Vec::new();
        while let (Some(word), after) = word(rest)? {
            found.push(match word {
                Word { bytes, is_quoted: true } => {
                    Unquoted::of(bytes).collect()
                }
                Word { bytes, .. } => bytes.to_vec(),
            });
            rest = after;
        }
        Ok(found)
    }

    #[test]
    fn quoting_follows_redis() {
        let good: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t\x0b\x0c\r", &[]),
            (b"a", &[b"a"]),
            (b"  a b\tc ", &[b"a", b"b", b"c"]),
            (b"a\x0bb", &[b"a\x0bb"]),
            (b"\"\"", &[b""]),
            (b"''", &[b""]),
            (b"\"a b\" c", &[b"a b", b"c"]),
            (b"x\"a b\"\x0cc", &[b"xa b", b"c"]),
            (b"\"\\n\\r\\t\\b\\a\\\"\\\\\\q\"", &[b"\n\r\t\x08\x07\"\\q"]),
            (b"\"\\x00\\xfF\\xg0\\x\"", &[b"\0\xffxg0x"]),
            (b"'it\\'s' '\\n'", &[b"it's", b"\\n"]),
            (b"a'b c'", &[b"ab c"]),
        ];
        for (line, expected) in good {
            let found = words(line).expect("balanced");
            assert_eq!(found, *expected, "{}", line.escape_ascii());
        }
        let bad: &[&[u8]] =
            &[b"\"", b"'", b"\"a\"b", b"'a'b", b"\"a\\\"", b"a \"b", b"\"\\"];
        for line in bad {
            assert_eq!(words(line), Err(Unbalanced), "{}", line.escape_ascii());
        }
    }
}
