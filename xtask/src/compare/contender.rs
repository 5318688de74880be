//! The programs that are compared: models, and what they are measured against.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::results::Server;
use super::workload::{Load, Workload};
use crate::model::{
    Clients, Model, Threads, Transport, Variant, Workspace, names,
};
use crate::{build, process};

/// A program that can take a load.
#[derive(Clone, Debug)]
pub struct Contender {
    pub title: String,
    summary: String,
    program: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Model(Box<Model>, Variant),
    /// The server whose protocol the models speak.
    Redis,
    /// This program, as the loop that knows nothing.
    Bare,
}

pub const REDIS: &str = "redis-server";
pub const BARE: &str = "bare-loop";

/// Finds the models that `chosen` names, in reading order, all of them if
/// nothing is named; and the yardsticks that there are on this machine.
pub fn contenders(
    workspace: &Workspace,
    chosen: &[String],
) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for model in &workspace.models {
        for variant in &model.variants {
            let title = model.title(variant);
            let is_it = |name: &String| *name == model.name || *name == title;
            if chosen.is_empty() || chosen.iter().any(is_it) {
                contenders.push(Contender {
                    title,
                    summary: model.summary.clone(),
                    program: build::binary(workspace, model),
                    kind: Kind::Model(Box::new(model.clone()), variant.clone()),
                });
            }
        }
    }
    let yardsticks = yardsticks()?;
    let known = |name: &String| {
        let mut all = contenders.iter().chain(&yardsticks);
        all.any(|contender| match &contender.kind {
            Kind::Model(model, _) => {
                *name == model.name || *name == contender.title
            }
            _ => *name == contender.title,
        })
    };
    if let Some(unknown) = chosen.iter().find(|name| !known(name)) {
        bail!("{}", list(workspace, unknown));
    }
    contenders.extend(yardsticks);
    Ok(contenders)
}

/// Says that there is none of this name, and which there are.
fn list(workspace: &Workspace, unknown: &str) -> String {
    let models = workspace.models.iter().flat_map(|model| {
        model.variants.iter().map(|variant| model.title(variant))
    });
    let models: Vec<_> = models.collect();
    format!(
        "no model is called {unknown}; there are: {}, and to measure against: \
         {BARE}, {REDIS}",
        models.join(", ")
    )
}

fn yardsticks() -> Result<Vec<Contender>> {
    let mut yardsticks = Vec::new();
    if let Some(program) = process::which(REDIS) {
        yardsticks.push(Contender {
            title: REDIS.to_owned(),
            summary: format!("Redis {}", redis_version(&program)),
            program,
            kind: Kind::Redis,
        });
    }
    yardsticks.push(Contender {
        title: BARE.to_owned(),
        summary: "receives and sends, and knows nothing: the floor".to_owned(),
        program: std::env::current_exe().context("this program's path")?,
        kind: Kind::Bare,
    });
    Ok(yardsticks)
}

fn redis_version(program: &PathBuf) -> String {
    let output = Command::new(program).arg("--version").output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let mut words = output.split_whitespace();
    let version = words.find_map(|word| word.strip_prefix("v="));
    version.unwrap_or("of an unknown version").to_owned()
}

impl Contender {
    /// A model that is a script for the shell instead, to be tested with.
    #[cfg(test)]
    pub fn scripted(script: &str) -> Self {
        let workspace = Workspace::load().unwrap();
        let model = workspace.models.iter();
        let model = model.rev().find(|m| m.clients == Clients::Many).unwrap();
        let variant = Variant {
            args: vec!["-c".to_owned(), script.to_owned()],
            ..model.variants[0].clone()
        };
        Self {
            title: "scripted".to_owned(),
            summary: String::new(),
            program: "/bin/sh".into(),
            kind: Kind::Model(Box::new(model.clone()), variant),
        }
    }

    pub fn server(&self) -> Server {
        Server {
            title: self.title.clone(),
            summary: self.summary.clone(),
            yardstick: !matches!(self.kind, Kind::Model(..)),
            one_thread: match &self.kind {
                Kind::Model(model, variant) => {
                    model.threads_of(variant) == Threads::One
                }
                // Redis has others, which serve nobody by default.
                Kind::Redis | Kind::Bare => true,
            },
        }
    }

    pub fn model(&self) -> Option<&Model> {
        self.variant().map(|(model, _)| model)
    }

    pub fn variant(&self) -> Option<(&Model, &Variant)> {
        match &self.kind {
            Kind::Model(model, variant) => Some((model, variant)),
            _ => None,
        }
    }

    pub fn serves(&self, transport: Transport) -> bool {
        match &self.kind {
            Kind::Model(model, variant) => {
                model.transports_of(variant).contains(&transport)
            }
            Kind::Redis => transport == Transport::Tcp,
            Kind::Bare => true,
        }
    }

    /// Says whether it promises to serve one client at a time.
    pub fn serves_one(&self) -> bool {
        self.model().is_some_and(|model| model.clients == Clients::One)
    }

    /// Says why it need not be tried with this load.
    pub fn declines(&self, workload: &Workload) -> Option<String> {
        let transport = workload.transport();
        if !self.serves(transport) {
            let why = match &self.kind {
                Kind::Model(_, variant) => variant.why.clone(),
                _ => None,
            };
            let transport = names(&[transport]);
            return Some(match why {
                Some(why) => format!("does not serve {transport}: {why}"),
                None => format!("does not serve {transport}"),
            });
        }
        let streams = transport == Transport::Tcp;
        let waits = workload.load == Load::Short;
        if streams && self.serves_one() && workload.held() > 1 && !waits {
            return Some("serves one client at a time".to_owned());
        }
        None
    }

    /// Makes the command that starts it for this load; and its address, if it
    /// does not say that itself.
    pub fn command(
        &self,
        workload: &Workload,
    ) -> Result<(Command, Option<SocketAddr>)> {
        let mut command = Command::new(&self.program);
        let transport = workload.transport();
        match &self.kind {
            Kind::Model(_, variant) => {
                command.args(&variant.args);
                command.args([&format!("--{transport}"), "127.0.0.1:0"]);
            }
            Kind::Redis => {
                let address = free_address()?;
                command.args(["--bind", "127.0.0.1", "--port"]);
                command.arg(address.port().to_string());
                command.args(["--save", "", "--appendonly", "no"]);
                // In that mode it takes clients from 127.0.0.1 only.
                command.args(["--protected-mode", "no"]);
                command.args(["--maxclients", "65536"]);
                return Ok((command, Some(address)));
            }
            Kind::Bare => {
                command.arg("bare-loop").arg("--request");
                command.arg(workload.request.to_string());
                if transport == Transport::Udp {
                    command.arg("--udp");
                }
            }
        }
        Ok((command, None))
    }
}

/// An address that is free now, for a program that can't choose one itself.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::super::workload;
    use super::*;

    fn titles(chosen: &[&str]) -> Result<Vec<String>> {
        let workspace = Workspace::load().unwrap();
        let chosen: Vec<_> = chosen.iter().map(|c| (*c).to_owned()).collect();
        let contenders = contenders(&workspace, &chosen)?;
        let models = contenders.iter().filter(|c| c.model().is_some());
        Ok(models.map(|contender| contender.title.clone()).collect())
    }

    #[test]
    fn models_and_variants_can_be_chosen() {
        let all = titles(&[]).unwrap();
        assert_eq!(all.first().unwrap(), "blocking");
        assert_eq!(
            titles(&["multiplexing-epoll/edge", "blocking"]).unwrap(),
            ["blocking", "multiplexing-epoll/edge"]
        );
        assert_eq!(titles(&["multiplexing-epoll"]).unwrap().len(), 3);
        // Yardsticks are there in any case.
        assert_eq!(titles(&["bare-loop"]).unwrap(), [""; 0]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        for unknown in ["epoll", "multiplexing-epoll/egde", "blocking/"] {
            let error = titles(&[unknown]).unwrap_err().to_string();
            assert!(error.contains(&format!("called {unknown};")), "{error}");
            assert!(error.contains(" multiplexing-epoll/edge,"), "{error}");
        }
    }

    #[test]
    fn what_a_model_does_not_do_is_known_beforehand() {
        let workspace = Workspace::load().unwrap();
        let contenders = contenders(&workspace, &[]).unwrap();
        let workloads = workload::all().unwrap();
        let declines = |who: &str, what: &str| {
            let who = contenders.iter().find(|c| c.title == who).unwrap();
            let what = workloads.iter().find(|w| w.name == what).unwrap();
            who.declines(what)
        };
        assert_eq!(declines("blocking", "ping-1"), None);
        assert_eq!(declines("blocking", "short"), None);
        assert_eq!(declines("blocking", "udp"), None);
        let one = Some("serves one client at a time".to_owned());
        assert_eq!(declines("blocking", "ping-50"), one);
        let why = declines("async-io/posix-aio", "udp").unwrap();
        assert!(why.starts_with("does not serve udp: "), "{why}");
        assert_eq!(declines("bare-loop", "udp"), None);
    }
}
