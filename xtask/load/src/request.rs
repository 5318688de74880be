//! Requests and their expected replies.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::Deserialize;

/// One kind of request.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    Ping,
    /// An ECHO of this many bytes.
    Echo(usize),
}

impl FromStr for Request {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "ping" => Ok(Self::Ping),
            Some(("echo", size)) => Ok(Self::Echo(size.parse()?)),
            _ => bail!("a request is `ping` or `echo:BYTES`"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping => f.write_str("ping"),
            Self::Echo(size) => write!(f, "echo:{size}"),
        }
    }
}

impl Request {
    /// Returns the bytes of one request.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Ping => b"*1\r\n$4\r\nPING\r\n".to_vec(),
            Self::Echo(size) => {
                let head = format!("*2\r\n$4\r\nECHO\r\n${size}\r\n");
                [head.as_bytes(), &payload(size), b"\r\n"].concat()
            }
        }
    }

    /// Returns the bytes of its reply.
    pub fn reply(self) -> Vec<u8> {
        match self {
            Self::Ping => b"+PONG\r\n".to_vec(),
            Self::Echo(size) => {
                let head = format!("${size}\r\n");
                [head.as_bytes(), &payload(size), b"\r\n"].concat()
            }
        }
    }
}

/// Makes bytes with a period that is no power of two, so that a page or a
/// buffer in the wrong place is detected.
fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at % 23) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_they_are_read() {
        for request in [Request::Ping, Request::Echo(7)] {
            assert_eq!(
                request.to_string().parse::<Request>().unwrap(),
                request
            );
        }
        for strange in ["", "pong", "echo", "echo:", "ping:1"] {
            strange.parse::<Request>().unwrap_err();
        }
    }

    #[test]
    fn an_echo_brings_back_what_was_sent() {
        let request = Request::Echo(300);
        let (sent, reply) = (request.bytes(), request.reply());
        assert!(sent.starts_with(b"*2\r\n$4\r\nECHO\r\n$300\r\nabc"));
        assert!(reply.starts_with(b"$300\r\nabc"));
        assert!(sent.ends_with(&reply));
    }
}
