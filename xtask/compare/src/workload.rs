//! The loads that every server is put under: `workloads.toml`, which is data.

use anyhow::{Context, Result, bail, ensure};
use lab::model::Transport;
use load::request::Request;
use serde::Deserialize;

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
}
