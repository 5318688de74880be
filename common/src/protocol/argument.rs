//! The arguments of a complete request, borrowed from the bytes that arrived.

use std::iter::Copied;
use std::slice;

use super::inline::{Unquoted, word};
use super::number::header;

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument<'a> {
    /// The bytes themselves.
    Plain(&'a [u8]),
    /// A word of an inline request, still in its quotes.
    Quoted(&'a [u8]),
}

impl<'a> Argument<'a> {
    pub(crate) fn bytes(self) -> Bytes<'a> {
        match self {
            Argument::Plain(bytes) => Bytes::Plain(bytes.iter().copied()),
            Argument::Quoted(word) => Bytes::Quoted(Unquoted::of(word)),
        }
    }

    /// The bytes up to the first NUL: what C's string functions see, and with
    /// them Redis in many places.
    pub(crate) fn text(self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        self.bytes().take_while(|byte| *byte != 0)
    }

    /// Whether all of it spells `word`, in whatever case.
    pub(crate) fn is(self, word: &str) -> bool {
        match self {
            Argument::Plain(bytes) => {
                bytes.eq_ignore_ascii_case(word.as_bytes())
            }
            Argument::Quoted(_) => spells(self.bytes(), word),
        }
    }

    /// Whether it spells `word` up to the first NUL, as strcasecmp(3) compares.
    pub(crate) fn is_up_to_nul(self, word: &str) -> bool {
        spells(self.text(), word)
    }
}

fn spells(bytes: impl Iterator<Item = u8>, word: &str) -> bool {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    bytes.map(lower).eq(word.bytes().map(lower))
}

/// The bytes of an argument.
#[derive(Clone, Debug)]
pub(crate) enum Bytes<'a> {
    Plain(Copied<slice::Iter<'a, u8>>),
    Quoted(Unquoted<'a>),
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        match self {
            Bytes::Plain(bytes) => bytes.next(),
            Bytes::Quoted(bytes) => bytes.next(),
        }
    }
}

/// The arguments of one request, in order; the first is the command's name.
///
/// Walks over the request's own bytes, so that any number of arguments needs
/// no table. `Progress` has found the request complete and well formed, which
/// is what the plain slicing here relies on.
#[derive(Clone, Debug)]
pub(crate) struct Arguments<'a> {
    form: Form,
    rest: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// As many arguments as still to come, each behind its header.
    Multibulk(usize),
    /// A line of words.
    Inline,
}

impl<'a> Arguments<'a> {
    /// Of a complete request, from its first byte to its last.
    #[inline]
    pub(crate) fn of(request: &'a [u8]) -> Self {
        if request.first() == Some(&b'*') {
            // Only a count below zero has no such header: no arguments.
            let (count, length) = header(request, b'*').unwrap_or_default();
            let form = Form::Multibulk(count as usize);
            return Self { form, rest: &request[length..] };
        }
        let line = request.strip_suffix(b"\n").unwrap_or(request);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self { form: Form::Inline, rest: line }
    }

    /// How many are left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        match self.form {
            Form::Multibulk(left) => left,
            Form::Inline => self.clone().count(),
        }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Argument<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Argument<'a>> {
        match &mut self.form {
            Form::Multibulk(left) => {
                *left = left.checked_sub(1)?;
                let (length, start) = header(self.rest, b'$')?;
                let end = start + length as usize;
                let argument = &self.rest[start..end];
                self.rest = &self.rest[end + 2..];
                Some(Argument::Plain(argument))
            }
            Form::Inline => {
                let (word, after) = word(self.rest).ok()?;
                self.rest = after;
                word
            }
        }
    }
}
