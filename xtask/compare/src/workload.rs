//! The loads that every server is measured under, from `workloads.toml`.

use anyhow::{Context, Result, bail, ensure};
use lab::model::Transport;
use load::mixed::Heavy;
use load::request::Request;
use serde::Deserialize;

/// How the generator sends requests.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// A connection sends again once it has its replies. A slow server slows
    /// the load down, so requests that would have waited are never made
    /// (coordinated omission).
    Closed,
    /// Requests are due at fixed times, from which latency counts.
    Open,
    /// One connection per request.
    Short,
    /// A closed loop over UDP.
    Datagrams,
    /// A closed loop on a few connections at a time, all of them in turn.
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
    /// Active connections.
    pub connections: usize,
    /// Outstanding requests per connection.
    #[serde(default = "one")]
    pub pipeline: usize,
    /// In a round, connections with an outstanding request at any time.
    pub busy: Option<usize>,
    /// Additional connections that send nothing.
    #[serde(default)]
    pub idle: usize,
    /// Requests per second, for an open load.
    pub rate: Option<u32>,
    /// Expensive requests among the others, for an open load. Latency does not
    /// count them.
    pub heavy: Option<Heavy>,
    /// The number of short connections after which the run ends.
    pub total: Option<u32>,
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
        ensure!(self.connections > 0, "`connections` must be positive");
        ensure!(self.pipeline > 0, "`pipeline` must be positive");
        ensure!(
            (self.load == Load::Open) == self.rate.is_some_and(|rate| rate > 0),
            "`rate` is required for an open load, and for no other"
        );
        ensure!(
            self.heavy.is_none() || self.load == Load::Open,
            "`heavy` is for an open load"
        );
        ensure!(
            (self.load == Load::Round)
                == self.busy.is_some_and(|busy| busy > 0),
            "`busy` is required for a round, and for no other load"
        );
        Ok(())
    }

    /// Returns the transport that it uses.
    pub fn transport(&self) -> Transport {
        match self.load {
            Load::Datagrams => Transport::Udp,
            _ => Transport::Tcp,
        }
    }

    /// Returns the requests that servers have to be told to allow.
    pub fn debug(&self) -> Option<Request> {
        let heavy = self.heavy.map(|heavy| heavy.request);
        heavy.into_iter().chain([self.request]).find(|it| it.is_debug())
    }

    /// Returns the number of connections that a server holds at the same time.
    pub fn held(&self) -> usize {
        self.connections + self.idle
    }
}

/// Selects workloads by name, in the file's order. The error for an unknown
/// name lists all names.
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
    fn the_file_is_valid() {
        let all = all().unwrap();
        let mut names: Vec<_> = all.iter().map(|w| &w.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len(), "a name occurs twice");
        assert!(all.iter().any(|workload| workload.quick));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = named(all().unwrap(), &["pong".to_owned()]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("called pong; there are: ping-1, "), "{error}");
    }
}
