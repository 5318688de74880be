//! The arguments of a complete request, borrowed from the bytes that arrived.

use std::iter::Copied;
use std::slice;

use super::inline::{Unquoted, Word, word};
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

/// A complete request.
pub(crate) struct Request<'a> {
    /// The command's name; `None` for an empty request.
    pub(crate) name: Option<Argument<'a>>,
    /// The arguments behind the name.
    pub(crate) arguments: Arguments<'a>,
}

impl<'a> Request<'a> {
    /// From its first byte to its last.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let mut arguments = Arguments::of(bytes);
        Self { name: arguments.next(), arguments }
    }

    /// Makes a request of a name and this many arguments in the bytes that
    /// follow.
    #[inline(always)]
    pub(crate) fn new(name: &'a [u8], count: usize, rest: &'a [u8]) -> Self {
        let form = Form::Multibulk(count);
        let arguments = Arguments { form, rest };
        Self { name: Some(Argument::Plain(name)), arguments }
    }
}

/// The argument that `bytes` begin with, behind its header, and what follows
/// it; nothing unless all of it is there.
#[inline(always)]
pub(crate) fn bulk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, start) = header(bytes, b'$')?;
    let length = usize::try_from(length).ok()?;
    let (argument, after) = bytes[start..].split_at_checked(length)?;
    Some((argument, after.get(2..)?))
}

/// The arguments of one request that are still to come, in order.
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
    /// The number of arguments that follow, each behind its header.
    Multibulk(usize),
    /// A line of words.
    Inline,
}

impl<'a> Arguments<'a> {
    fn of(request: &'a [u8]) -> Self {
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

    /// The number of arguments that follow.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        match self.form {
            Form::Multibulk(left) => left,
            Form::Inline => self.clone().count(),
        }
    }

    fn next_word(&mut self) -> Option<Argument<'a>> {
        let (word, after) = word(self.rest).ok()?;
        self.rest = after;
        word.map(|word| match word {
            Word { bytes, is_quoted: true } => Argument::Quoted(bytes),
            Word { bytes, is_quoted: false } => Argument::Plain(bytes),
        })
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = Argument<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Argument<'a>> {
        match &mut self.form {
            Form::Multibulk(left) => {
                *left = left.checked_sub(1)?;
                let (argument, after) = bulk(self.rest)?;
                self.rest = after;
                Some(Argument::Plain(argument))
            }
            Form::Inline => self.next_word(),
        }
    }
}
