//! A server that is watched, from its start until it stops or is no use: under
//! a tracer, or without one where that is forbidden and does no harm.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::event::{Event, Refusal};
use super::tracer::{Trace, Tracee};
use crate::model::Transport;
use crate::process;
use crate::server::{self, Ready};

/// How long a server may take to be ready, and to end when it was asked to:
/// that is longer than any drain, see `--drain-timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of a server that is about to end may take.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A server that listens. Dropped, it is killed with all its children.
#[derive(Debug)]
pub struct Host {
    server: Process,
    address: SocketAddr,
    errors: File,
    /// Why it is not traced, if it is not.
    pub untraced: Option<String>,
}

/// Whether a server may run where the machine forbids tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// The start fails with [`Refusal`].
    Required,
    /// The server runs all the same, and nothing is seen of it.
    Optional,
}

#[derive(Debug)]
enum Process {
    Traced(Tracee),
    Plain(Plain),
}

/// A process that nobody traces.
#[derive(Debug)]
struct Plain(Child);

impl Drop for Plain {
    fn drop(&mut self) {
        process::end_group(server::pid(&self.0));
        let _ = self.0.wait();
    }
}

impl Host {
    /// Starts it, and waits until it listens. Fails with [`Refusal`] where the
    /// server says that this kernel can't run it.
    pub fn start(
        program: &Path,
        arguments: &[String],
        (transport, address): (Transport, &str),
        tracing: Tracing,
    ) -> Result<Self> {
        let errors: File = memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC)
            .context("memfd_create")?
            .into();
        let command = || -> Result<Command> {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .args([&format!("--{transport}"), address])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(errors.try_clone().context("the server's stderr")?);
            server::tie(&mut command, Signal::SIGKILL);
            Ok(command)
        };
        let mut untraced = None;
        let server = match Tracee::start(command()?) {
            Ok(tracee) => Process::Traced(tracee),
            Err(error) => {
                if tracing == Tracing::Required || !error.is::<Refusal>() {
                    return Err(error);
                }
                untraced = Some(error.to_string());
                let child = command()?.spawn();
                let child = child.with_context(|| {
                    format!("cannot start {}", program.display())
                })?;
                Process::Plain(Plain(child))
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
            Process::Plain(Plain(child)) => child.stdout.take(),
        }
    }

    fn wait_until_ready(mut self, transport: Transport) -> Result<Self> {
        let stdout = self.stdout().context("no output")?;
        let line = server::line_in_time(stdout, PATIENCE)?;
        if line.is_empty() {
            return Err(self.explain(anyhow!("it does not get ready")));
        }
        let ready: Ready = line.parse()?;
        let address = match transport {
            Transport::Tcp => ready.tcp,
            Transport::Udp => ready.udp,
        };
        self.address = address.context("ready, but on another transport")?;
        Ok(self)
    }

    /// The error, with what has become of the server.
    pub fn explain(self, error: anyhow::Error) -> anyhow::Error {
        let has_ended = self.ends_soon();
        let words = server::last_words(&self.errors);
        let status = if has_ended { self.status() } else { Ok(None) };
        let said = match &words {
            Some(words) => format!("; it said: {words}"),
            None => String::new(),
        };
        let status = match status {
            Ok(status) => status,
            // The tracer has ended it, and knows why.
            Err(failure) => return failure.context(error),
        };
        match status {
            Some(status) if status.code() == Some(server::CANNOT_RUN_HERE) => {
                let why = words.unwrap_or("no reason given".to_owned());
                Refusal::Running(why).into()
            }
            Some(status) => {
                error.context(format!("the server has ended: {status}{said}"))
            }
            None if words.is_none() => error,
            None => error.context(format!("the server is running{said}")),
        }
    }

    /// The first of its processes, and its process group.
    pub fn leader(&self) -> Pid {
        match &self.server {
            Process::Traced(tracee) => tracee.pid(),
            Process::Plain(Plain(child)) => server::pid(child),
        }
    }

    fn ends_soon(&self) -> bool {
        // Once it has been waited for, there is nothing to open.
        let Ok(end) = process::pidfd(self.leader()) else { return true };
        let deadline = Instant::now() + A_MOMENT;
        process::wait_readable(&end, deadline).unwrap_or(false)
    }

    /// Of a server that has ended.
    fn status(self) -> Result<Option<ExitStatus>> {
        Ok(match self.server {
            Process::Traced(tracee) => Some(tracee.wait()?.status),
            Process::Plain(mut plain) => plain.0.wait().ok(),
        })
    }

    /// Stops it, and says what it has done, as far as that was seen. Fails if
    /// it had ended by itself, or does not end well.
    pub fn stop(self) -> Result<Vec<Event>> {
        match self.server {
            Process::Traced(tracee) => {
                let Trace { events, status } = tracee.stop()?;
                ensure!(status.success(), "the server ended with {status}");
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
