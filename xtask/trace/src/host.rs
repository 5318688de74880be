//! A server under observation, from its start until it is shut down or useless:
//! under a tracer, or without one if tracing is forbidden and not required.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdout, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lab::Unsupported;
use lab::model::Transport;
use lab::server::{self, Errors, Server};
use nix::unistd::Pid;

use crate::event::Event;
use crate::tracer::{Trace, Tracee};

/// The longest time that the exit of a server may take once it has begun.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A server that listens. Dropping it kills it with all its children.
#[derive(Debug)]
pub struct Host {
    server: Process,
    address: SocketAddr,
    errors: Errors,
    /// The reason why it is not traced, if it is not.
    pub untraced: Option<String>,
}

/// Whether a server may run if the machine forbids tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// The start fails with [`Unsupported`].
    Required,
    /// The server runs without being traced.
    Optional,
}

#[derive(Debug)]
enum Process {
    Traced(Tracee),
    Plain(Server),
}

impl Host {
    /// Starts the server and waits until it listens. Fails with [`Unsupported`]
    /// if the server reports that this kernel can't run it.
    pub fn start(
        program: &Path,
        arguments: &[String],
        (transport, address): (Transport, &str),
        tracing: Tracing,
    ) -> Result<Self> {
        let mut arguments = arguments.to_vec();
        arguments.extend([format!("--{transport}"), address.to_owned()]);
        let errors = Errors::new()?;
        let command = || server::command(program, &arguments, &errors);
        let mut untraced = None;
        let server = match Tracee::start(command()?) {
            Ok(tracee) => Process::Traced(tracee),
            Err(error) => {
                if tracing == Tracing::Required || !error.is::<Unsupported>() {
                    return Err(error);
                }
                untraced = Some(error.to_string());
                Process::Plain(Server::spawn(command()?, errors.clone())?)
            }
        };
        let nowhere = ([0; 4], 0).into();
        let host = Self { server, address: nowhere, errors, untraced };
        host.wait_until_ready(transport)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns None if the server is not traced.
    pub fn tracee(&self) -> Option<&Tracee> {
        match &self.server {
            Process::Traced(tracee) => Some(tracee),
            Process::Plain(_) => None,
        }
    }

    fn stdout(&mut self) -> Option<ChildStdout> {
        match &mut self.server {
            Process::Traced(tracee) => tracee.stdout(),
            Process::Plain(server) => server.stdout(),
        }
    }

    fn wait_until_ready(mut self, transport: Transport) -> Result<Self> {
        let stdout = self.stdout().context("no output")?;
        let Some(ready) = server::wait_until_ready(stdout)? else {
            return Err(self.explain(anyhow!("no ready line")));
        };
        self.address = ready.address(transport)?;
        Ok(self)
    }

    /// Adds to the error what has become of the server.
    pub fn explain(self, error: anyhow::Error) -> anyhow::Error {
        let has_ended = server::ends_within(self.leader(), A_MOMENT);
        let errors = self.errors.clone();
        let status = match has_ended.then(|| self.status()).transpose() {
            Ok(status) => status.flatten(),
            // The tracer has killed it, and knows why.
            Err(failure) => return failure.context(error),
        };
        let words = errors.last_line();
        let said = words.map_or(String::new(), |it| format!("; it said: {it}"));
        match status {
            Some(status) if status.code() == Some(Unsupported::CODE.into()) => {
                server::ended_early(status, &errors)
            }
            Some(status) => {
                error.context(format!("the server has ended: {status}{said}"))
            }
            None if said.is_empty() => error,
            None => error.context(format!("the server is running{said}")),
        }
    }

    /// Returns its first process, which leads its process group.
    pub fn leader(&self) -> Pid {
        match &self.server {
            Process::Traced(tracee) => tracee.pid(),
            Process::Plain(server) => server.leader(),
        }
    }

    /// Returns the status of a server that has ended.
    fn status(self) -> Result<Option<ExitStatus>> {
        Ok(match self.server {
            Process::Traced(tracee) => Some(tracee.wait()?.status),
            Process::Plain(mut server) => server.status(),
        })
    }

    /// Shuts the server down and returns the events that were seen. Fails if it
    /// had exited by itself, or exits with an error.
    pub fn stop(self) -> Result<Vec<Event>> {
        match self.server {
            Process::Traced(tracee) => {
                let Trace { events, status } = tracee.stop()?;
                // A minimal program has no graceful shutdown.
                let killed = status.signal() == Some(libc::SIGTERM);
                ensure!(
                    status.success() || killed,
                    "the server ended with {status}"
                );
                Ok(events)
            }
            // Shutdown is not what is shown.
            Process::Plain(plain) => {
                drop(plain);
                Ok(Vec::new())
            }
        }
    }
}
