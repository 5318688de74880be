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
    /// A DEBUG SPIN of this many microseconds.
    Spin(u32),
    /// A DEBUG SLEEP of this many milliseconds.
    Sleep(u32),
}

impl FromStr for Request {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "ping" => Ok(Self::Ping),
            Some(("echo", size)) => Ok(Self::Echo(size.parse()?)),
            Some(("spin", time)) => Ok(Self::Spin(time.parse()?)),
            Some(("sleep", time)) => Ok(Self::Sleep(time.parse()?)),
            _ => bail!(
                "a request is `ping`, `echo:BYTES`, `spin:MICROSECONDS` \
                        or `sleep:MILLISECONDS`"
            ),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ping => f.write_str("ping"),
            Self::Echo(size) => write!(f, "echo:{size}"),
            Self::Spin(time) => write!(f, "spin:{time}"),
            Self::Sleep(time) => write!(f, "sleep:{time}"),
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
            Self::Spin(time) => debug("SPIN", &time.to_string()),
            Self::Sleep(time) => {
                debug("SLEEP", &(f64::from(time) / 1e3).to_string())
            }
        }
    }

    /// Returns whether servers have to be told to allow it.
    pub fn is_debug(self) -> bool {
        matches!(self, Self::Spin(_) | Self::Sleep(_))
    }

    /// Returns the bytes of its reply.
    pub fn reply(self) -> Vec<u8> {
        match self {
            Self::Ping => b"+PONG\r\n".to_vec(),
            Self::Echo(size) => {
                let head = format!("${size}\r\n");
                [head.as_bytes(), &payload(size), b"\r\n"].concat()
            }
            Self::Spin(_) | Self::Sleep(_) => b"+OK\r\n".to_vec(),
        }
    }
}

fn debug(subcommand: &str, time: &str) -> Vec<u8> {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let [name, time] = [bulk(subcommand), bulk(time)];
    format!("*3\r\n$5\r\nDEBUG\r\n{name}{time}").into_bytes()
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
        use Request::{Echo, Ping, Sleep, Spin};
        for request in [Ping, Echo(7), Spin(20), Sleep(10)] {
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
    fn debug_requests_have_the_time_in_their_unit() {
        let bytes =
            |request: Request| request.bytes().escape_ascii().to_string();
        assert!(
            bytes(Request::Spin(20)).ends_with("SPIN\\r\\n$2\\r\\n20\\r\\n")
        );
        let sleep = bytes(Request::Sleep(10));
        assert!(sleep.ends_with("SLEEP\\r\\n$4\\r\\n0.01\\r\\n"), "{sleep}");
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
