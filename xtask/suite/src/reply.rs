//! Replies whose bytes are not known in advance: parses them and checks their
//! form.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use super::bytes::show;

/// One reply in RESP2 or RESP3, see
/// <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// A string with the three letters of its format.
    Verbatim(String, Vec<u8>),
    Null,
    Boolean(bool),
    Array(Vec<Self>),
    /// Keys and values, alternating.
    Map(Vec<Self>),
}

impl Reply {
    pub fn read(stream: &mut impl Read) -> Result<Self> {
        let line = read_line(stream)?;
        let (kind, rest) = line.split_at_checked(1).context("no type")?;
        Ok(match kind {
            "+" => Self::Simple(rest.to_owned()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Integer(number(rest)?),
            "_" => Self::Null,
            "#" => Self::Boolean(rest == "t"),
            "$" | "*" if rest == "-1" => Self::Null,
            "$" => Self::Bulk(read_bulk(stream, number(rest)?)?),
            "=" => {
                let text = read_bulk(stream, number(rest)?)?;
                ensure!(text.get(3) == Some(&b':'), "no format in {line:?}");
                let format = String::from_utf8_lossy(&text[..3]).into_owned();
                Self::Verbatim(format, text[4..].to_vec())
            }
            "*" | "~" | ">" => Self::Array(read_all(stream, number(rest)?)?),
            "%" => Self::Map(read_all(stream, 2 * number::<usize>(rest)?)?),
            _ => bail!("not the first line of a reply: {line:?}"),
        })
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().ok().with_context(|| format!("not a number: {text:?}"))
}

/// Reads byte by byte, so that what follows stays unread.
fn read_line(stream: &mut impl Read) -> Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        let count = stream
            .read(&mut byte)
            .with_context(|| format!("in a reply, after {}", show(&line)))?;
        ensure!(count > 0, "a reply ended early, after {}", show(&line));
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).context("a reply's first line")
}

fn read_all(stream: &mut impl Read, count: usize) -> Result<Vec<Reply>> {
    (0..count).map(|_| Reply::read(stream)).collect()
}

fn read_bulk(stream: &mut impl Read, length: usize) -> Result<Vec<u8>> {
    let mut bulk = vec![0; length + 2];
    stream.read_exact(&mut bulk).context("in a bulk string")?;
    ensure!(bulk.ends_with(b"\r\n"), "a bulk string without CRLF");
    bulk.truncate(length);
    Ok(bulk)
}

/// The text of INFO: `key:value` lines in sections, which begin with `# Name`
/// and have an empty line between them, as in Redis.
#[derive(Clone, Debug)]
pub struct Info {
    values: BTreeMap<String, String>,
}

impl Info {
    /// The most bytes that INFO may have. No other request multiplies a
    /// client's input more.
    pub const MAX: usize = 512;

    pub fn from_reply(reply: &Reply) -> Result<Self> {
        let text = match reply {
            Reply::Bulk(text) => text,
            Reply::Verbatim(format, text) if format == "txt" => text,
            other => bail!("expected INFO, seen {other:?}"),
        };
        Self::parse(text).with_context(|| format!("in {}", show(text)))
    }

    pub fn parse(text: &[u8]) -> Result<Self> {
        let size = text.len();
        ensure!(size <= Self::MAX, "INFO has {size} bytes");
        let text = str::from_utf8(text)?;
        let text = text.strip_suffix("\r\n").context("no line end")?;
        let mut values = BTreeMap::new();
        for line in text.split("\r\n") {
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            let (key, value) = line
                .split_once(':')
                .with_context(|| format!("not key:value: {line:?}"))?;
            let before = values.insert(key.to_owned(), value.to_owned());
            ensure!(before.is_none(), "{key} occurs twice");
        }
        Ok(Self { values })
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.values.get(key);
        Ok(value.with_context(|| format!("INFO has no {key}"))?.as_str())
    }

    pub fn number(&self, key: &str) -> Result<u64> {
        number(self.text(key)?).with_context(|| format!("{key} in INFO"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_replies_are_errors() {
        for bytes in ["", "+OK", "?1\r\n", "$3\r\nab", "$1\r\nabc", ":x\r\n"] {
            assert!(
                Reply::read(&mut bytes.as_bytes()).is_err(),
                "{bytes:?} parsed"
            );
        }
    }

    #[test]
    fn malformed_info_is_an_error() {
        for wrong in ["a:1", "a\r\n", "a:1\r\na:2\r\n"] {
            assert!(Info::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }
}
