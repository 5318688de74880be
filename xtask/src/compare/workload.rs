//! The loads that every server is put under: `workloads.toml`, which is data.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::model::Transport;

/// The behaviour of the generator.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// A connection sends when it has its replies: a slow server slows the
    /// load down, and requests that would have waited are never made.
    Closed,
    /// Requests are due at fixed times; latency counts from then.
    Open,
    /// A connection for each request.
    Short,
    /// Closed, over UDP.
    Datagrams,
    /// Closed on a few connections at a time, all in turn.
    Round,
}

/// The request that is sent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    Ping,
    /// An ECHO of that many bytes, which come back.
    Echo(usize),
}

/// One load, as the file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    pub name: String,
    pub title: String,
    pub load: Load,
    pub request: Request,
    /// Connections that are active.
    pub connections: usize,
    /// Requests on their way on one connection.
    #[serde(default = "one")]
    pub pipeline: usize,
    /// In a round, connections that have a request on its way at a time.
    pub busy: Option<usize>,
    /// Connections beside them that say nothing.
    #[serde(default)]
    pub idle: usize,
    /// Requests a second, for an open load.
    pub rate: Option<u32>,
    /// Part of the default run.
    #[serde(default)]
    pub quick: bool,
}

fn one() -> usize {
    1
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
    /// The bytes of one request.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Ping => b"*1\r\n$4\r\nPING\r\n".to_vec(),
            Self::Echo(size) => {
                let head = format!("*2\r\n$4\r\nECHO\r\n${size}\r\n");
                [head.as_bytes(), &payload(size), b"\r\n"].concat()
            }
        }
    }

    /// The bytes of its reply.
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

/// Bytes whose period is no power of two, so that a page or a buffer in the
/// wrong place shows.
fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at % 23) as u8).collect()
}

/// Reads all workloads, in order.
pub fn all() -> Result<Vec<Workload>> {
    #[derive(Deserialize)]
    struct File {
        workload: Vec<Workload>,
    }
    let file: File = toml::from_str(include_str!("workloads.toml"))
        .context("workloads.toml")?;
    for workload in &file.workload {
        workload.check().with_context(|| format!("{:?}", workload.name))?;
    }
    Ok(file.workload)
}

impl Workload {
    fn check(&self) -> Result<()> {
        ensure!(self.connections > 0, "no connection");
        ensure!(self.pipeline > 0, "nothing is ever sent");
        ensure!(
            (self.load == Load::Open) == self.rate.is_some_and(|rate| rate > 0),
            "an open load has a rate, and no other has"
        );
        ensure!(
            (self.load == Load::Round)
                == self.busy.is_some_and(|busy| busy > 0),
            "a round has busy connections, and no other load says how many"
        );
        Ok(())
    }

    /// The transport that it goes over.
    pub fn transport(&self) -> Transport {
        match self.load {
            Load::Datagrams => Transport::Udp,
            _ => Transport::Tcp,
        }
    }

    /// Connections that a server holds at the same time.
    pub fn held(&self) -> usize {
        self.connections + self.idle
    }
}

/// Picks those with the names given, in the file's order; an unknown name is an
/// error that lists them all.
pub fn named(all: Vec<Workload>, names: &[String]) -> Result<Vec<Workload>> {
    for name in names {
        if !all.iter().any(|workload| workload.name == *name) {
            let known: Vec<_> = all.iter().map(|w| w.name.as_str()).collect();
            bail!(
                "no workload is called {name}; there are: {}",
                known.join(", ")
            );
        }
    }
    let mut all = all;
    all.retain(|workload| names.contains(&workload.name));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_sound() {
        let all = all().unwrap();
        let mut names: Vec<_> = all.iter().map(|w| &w.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len(), "a name stands there twice");
        assert!(all.iter().any(|workload| workload.quick));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = named(all().unwrap(), &["pong".to_owned()]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("called pong; there are: ping-1, "), "{error}");
    }

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
