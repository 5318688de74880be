//! The programs that are compared: models and yardsticks.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use camino::Utf8Path;
use lab::examples::{self, Profile};
use lab::model::{Clients, Model, Transport, Variant, Workspace, names};
use lab::number::some;
use lab::{build, process};
use load::request::Request;

use super::results::{Group, Server};
use super::workload::{Load, Workload};

/// A program that is measured.
#[derive(Clone, Debug)]
pub struct Contender {
    pub title: String,
    summary: String,
    program: PathBuf,
    kind: Kind,
    /// Flags in place of those that give a pool a worker per connection.
    flags: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Kind {
    Model(Box<(Model, Variant)>),
    /// A model without its policies: the example with this name.
    Minimal(Box<(Model, Variant)>, String),
    /// The server whose protocol the models speak.
    Redis,
    /// The loop that receives and sends without parsing.
    Bare,
}

pub const REDIS: &str = "redis-server";
pub const BARE: &str = "bare-loop";

/// Returns the models that `chosen` names, or all models if it is empty, in
/// reading order, and the yardsticks available on this machine.
pub fn contenders(
    workspace: &Workspace,
    chosen: &[String],
) -> Result<Vec<Contender>> {
    let is_model = |name: &&String| ![BARE, REDIS].contains(&name.as_str());
    let names: Vec<_> = chosen.iter().filter(is_model).cloned().collect();
    let models = match chosen.is_empty() || !names.is_empty() {
        true => workspace.select(&names)?,
        false => Vec::new(),
    };
    let models = models
        .into_iter()
        .map(|(model, variant)| Contender::new(workspace, model, variant));
    Ok(models.chain(yardsticks(workspace)).collect())
}

fn yardsticks(workspace: &Workspace) -> Vec<Contender> {
    let mut yardsticks = Vec::new();
    if let Some(program) = process::which(REDIS) {
        yardsticks.push(Contender {
            title: REDIS.to_owned(),
            summary: format!("Redis {}", redis_version(&program)),
            program,
            kind: Kind::Redis,
            flags: None,
        });
    }
    yardsticks.push(Contender {
        title: BARE.to_owned(),
        summary: "receives and sends without parsing: the lower bound"
            .to_owned(),
        program: build::program(workspace, BARE),
        kind: Kind::Bare,
        flags: None,
    });
    yardsticks
}

fn redis_version(program: &PathBuf) -> String {
    let output = Command::new(program).arg("--version").output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let mut words = output.split_whitespace();
    let version = words.find_map(|word| word.strip_prefix("v="));
    version.unwrap_or("(unknown version)").to_owned()
}

impl Contender {
    pub fn new(
        workspace: &Workspace,
        model: &Model,
        variant: &Variant,
    ) -> Self {
        Self {
            title: model.title(variant),
            summary: model.summary.clone(),
            program: build::binary(workspace, model),
            kind: Kind::Model(Box::new((model.clone(), variant.clone()))),
            flags: None,
        }
    }

    /// Returns it under another title, to be started with these flags.
    #[must_use]
    pub fn with_flags(mut self, title: &str, flags: &str) -> Self {
        title.clone_into(&mut self.title);
        let flags = flags.split_whitespace().map(str::to_owned);
        self.flags = Some(flags.collect());
        self
    }

    /// Returns the variant's minimal program, if there is one.
    pub fn minimal(
        workspace: &Workspace,
        model: &Model,
        variant: &Variant,
    ) -> Option<Self> {
        let name = model.minimal(variant)?;
        let program =
            examples::program(workspace, model, &name, Profile::Release);
        Some(Self {
            title: format!("{}, minimal", model.title(variant)),
            summary: "the model without its policies".to_owned(),
            program,
            kind: Kind::Minimal(
                Box::new((model.clone(), variant.clone())),
                name,
            ),
            flags: None,
        })
    }

    /// Returns the program of the same name in a folder of another build.
    #[must_use]
    pub fn in_build(&self, folder: &Utf8Path) -> Self {
        let name = self.program.file_name().unwrap_or_default();
        Self {
            title: format!("{}, baseline", self.title),
            program: folder.as_std_path().join(name),
            ..self.clone()
        }
    }

    /// Returns whether its program exists.
    pub fn exists(&self) -> bool {
        self.program.is_file()
    }

    /// Makes a model that runs a shell script, for tests.
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
            kind: Kind::Model(Box::new((model.clone(), variant))),
            flags: None,
        }
    }

    pub fn server(&self) -> Server {
        Server {
            title: self.title.clone(),
            summary: self.summary.clone(),
            group: match self.variant() {
                None => Group::Yardstick,
                Some((_, it)) if it.promises.is_one_thread() => {
                    Group::OneThread
                }
                Some(_) => Group::ManyThreads,
            },
        }
    }

    pub fn model(&self) -> Option<&Model> {
        self.variant().map(|(model, _)| model)
    }

    pub fn variant(&self) -> Option<(&Model, &Variant)> {
        match &self.kind {
            Kind::Model(it) => Some((&it.0, &it.1)),
            _ => None,
        }
    }

    /// Returns the model and the name of the example, if it is a minimal
    /// program.
    pub fn example(&self) -> Option<(&Model, &str)> {
        match &self.kind {
            Kind::Minimal(it, name) => Some((&it.0, name)),
            _ => None,
        }
    }

    pub fn serves(&self, transport: Transport) -> bool {
        match &self.kind {
            Kind::Model(it) => {
                let (model, variant) = &**it;
                model.transports_of(variant).contains(&transport)
            }
            Kind::Minimal(..) | Kind::Redis => transport == Transport::Tcp,
            Kind::Bare => true,
        }
    }

    /// Returns the most clients that it serves at a time, if a load may have
    /// more.
    pub fn most_clients(&self) -> Option<usize> {
        let (model, most) = match &self.kind {
            Kind::Model(it) => (&it.0, None),
            Kind::Minimal(it, _) => (&it.0, it.1.minimal_clients),
            _ => return None,
        };
        if model.clients == Clients::One { Some(1) } else { most }
    }

    /// Returns whether its clients occupy workers that exist before them.
    pub fn has_pool(&self) -> bool {
        self.model().is_some_and(|model| model.pool.is_some())
    }

    /// Returns whether it has this request that takes time.
    fn allows(&self, request: Request) -> bool {
        match self.kind {
            Kind::Model(_) => true,
            Kind::Redis => matches!(request, Request::Sleep(_)),
            Kind::Minimal(..) | Kind::Bare => false,
        }
    }

    /// Returns the reason why this load is not for it, if there is one.
    pub fn declines(&self, workload: &Workload) -> Option<String> {
        let transport = workload.transport();
        if !self.serves(transport) {
            let why = self.variant().and_then(|(_, it)| it.why.as_ref());
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            let transport = names(&[transport]);
            return Some(format!("doesn't serve {transport}{why}"));
        }
        if let Some(request) = workload.debug()
            && !self.allows(request)
        {
            return Some(format!("has no request {request}"));
        }
        let streams = transport == Transport::Tcp;
        let waits = workload.load == Load::Short;
        let most = self.most_clients().filter(|most| workload.held() > *most);
        match most {
            Some(1) if streams && !waits => {
                Some("serves one client at a time".to_owned())
            }
            Some(most) if streams && !waits => {
                Some(format!("serves {} at a time", some(most, "client")))
            }
            _ => None,
        }
    }

    /// Makes the command that starts it for this load. Returns its address too
    /// if it prints no ready line.
    pub fn command(
        &self,
        workload: &Workload,
    ) -> Result<(Command, Option<SocketAddr>)> {
        let mut command = Command::new(&self.program);
        let transport = workload.transport();
        match &self.kind {
            Kind::Model(it) => {
                command.args(&it.1.args);
                match &self.flags {
                    Some(flags) => command.args(flags),
                    None => command.args(it.0.pool_flags(workload.held())),
                };
                command.args([&format!("--{transport}"), "127.0.0.1:0"]);
                if workload.debug().is_some() {
                    command.arg("--enable-debug-command");
                }
            }
            Kind::Minimal(..) => {
                command.arg("127.0.0.1:0");
            }
            Kind::Redis => {
                let address = free_address()?;
                command.args(["--bind", "127.0.0.1", "--port"]);
                command.arg(address.port().to_string());
                command.args(["--save", "", "--appendonly", "no"]);
                // In protected mode Redis accepts clients from 127.0.0.1 only.
                command.args(["--protected-mode", "no"]);
                command.args(["--maxclients", "65536"]);
                // Redis has had the option since 7.0.
                if workload.debug().is_some() {
                    command.args(["--enable-debug-command", "yes"]);
                }
                return Ok((command, Some(address)));
            }
            Kind::Bare => {
                command.arg("--request");
                command.arg(workload.request.to_string());
                if transport == Transport::Udp {
                    command.arg("--udp");
                }
            }
        }
        Ok((command, None))
    }
}

/// Finds a free address, for a program that can't bind port 0.
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
    fn yardsticks_are_always_included() {
        assert!(titles(&[]).unwrap().len() > 2);
        let chosen = titles(&["multiplexing-epoll/edge"]).unwrap();
        assert_eq!(chosen, ["multiplexing-epoll/edge"]);
        assert_eq!(titles(&["bare-loop"]).unwrap(), [""; 0]);
        titles(&["epoll"]).unwrap_err();
    }

    #[test]
    fn unsupported_loads_are_declined() {
        let workspace = Workspace::load().unwrap();
        let contenders = contenders(&workspace, &[]).unwrap();
        let workloads = workload::all().unwrap();
        let declines = |server: &str, load: &str| {
            let server = contenders.iter().find(|c| c.title == server).unwrap();
            let load = workloads.iter().find(|w| w.name == load).unwrap();
            server.declines(load)
        };
        assert_eq!(declines("blocking", "ping-1"), None);
        assert_eq!(declines("blocking", "short"), None);
        assert_eq!(declines("blocking", "udp"), None);
        let one = Some("serves one client at a time".to_owned());
        assert_eq!(declines("blocking", "ping-50"), one);
        let why = declines("async-io/posix-aio", "udp").unwrap();
        assert!(why.starts_with("doesn't serve udp: "), "{why}");
        assert_eq!(declines("bare-loop", "udp"), None);
        let spin = Some("has no request spin:1000".to_owned());
        assert_eq!(declines("bare-loop", "mixed"), spin);
        assert_eq!(declines("multiplexing-epoll/level", "mixed"), None);
    }
}
