//! A server that is watched, from its start until it stops or is no use: under
//! a tracer, or without one where that is forbidden and does no harm.

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

/// How long the end of a server that is about to end may take.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A server that listens. Dropped, it is killed with all its children.
#[derive(Debug)]
pub struct Host {
    server: Process,
    address: SocketAddr,
    errors: Errors,
    /// Why it is not traced, if it is not.
    pub untraced: Option<String>,
}

/// Whether a server may run where the machine forbids tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// The start fails with [`Unsupported`].
    Required,
    /// The server runs all the same, and nothing is seen of it.
    Optional,
}

#[derive(Debug)]
enum Process {
    Traced(Tracee),
    Plain(Server),
}

impl Host {
    /// Starts it, and waits until it listens. Fails with [`Unsupported`] where
    /// the server says that this kernel can't run it.
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

    /// None if it is not traced.
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
            return Err(self.explain(anyhow!("it does not get ready")));
        };
        self.address = ready.address(transport)?;
        Ok(self)
    }

    /// The error, with what has become of the server.
    pub fn explain(self, error: anyhow::Error) -> anyhow::Error {
        let has_ended = server::ends_within(self.leader(), A_MOMENT);
        let errors = self.errors.clone();
        let status = match has_ended.then(|| self.status()).transpose() {
            Ok(status) => status.flatten(),
            // The tracer has ended it, and knows why.
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

    /// The first of its processes, and its process group.
    pub fn leader(&self) -> Pid {
        match &self.server {
            Process::Traced(tracee) => tracee.pid(),
            Process::Plain(server) => server.leader(),
        }
    }

    /// Of a server that has ended.
    fn status(self) -> Result<Option<ExitStatus>> {
        Ok(match self.server {
            Process::Traced(tracee) => Some(tracee.wait()?.status),
            Process::Plain(mut server) => server.status(),
        })
    }

    /// Stops it, and says what it has done, as far as that was seen. Fails if
    /// it had ended by itself, or does not end well.
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
            // Stopping is not what is shown.
            Process::Plain(plain) => {
                drop(plain);
                Ok(Vec::new())
            }
        }
    }
}
