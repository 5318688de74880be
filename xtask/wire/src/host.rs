//! The server's process while it is watched: under a tracer where that is
//! allowed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use lab::Unsupported;
use lab::model::Transport;
use lab::server::{self, Errors, Server};
use nix::unistd::Pid;
use trace::event::Event;
use trace::tracer::{Refused, Tracee};

/// How long the end of a server that is about to end may take.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A server that listens. Dropped, it is killed with all its children.
#[derive(Debug)]
pub struct Host {
    serving: Serving,
    address: SocketAddr,
    errors: Errors,
    /// Why it is not traced, if it is not.
    pub untraced: Option<String>,
}

#[derive(Debug)]
enum Serving {
    Traced(Tracee),
    Plain(Server),
}

impl Host {
    /// Starts it, and waits until it listens.
    pub fn start(
        program: &Path,
        arguments: &[String],
        transport: Transport,
        address: &str,
    ) -> Result<Self> {
        let mut arguments = arguments.to_vec();
        arguments.extend([format!("--{transport}"), address.to_owned()]);
        let errors = Errors::new()?;
        let command = || server::command(program, &arguments, &errors);
        let mut untraced = None;
        let serving = match Tracee::start(command()?) {
            Ok(tracee) => Serving::Traced(tracee),
            Err(error) => {
                let refused = error.downcast_ref::<Refused>();
                let Some(why) = refused.map(Refused::to_string) else {
                    return Err(error);
                };
                untraced = Some(why);
                Serving::Plain(Server::spawn(command()?, errors.clone())?)
            }
        };
        let nowhere = ([0; 4], 0).into();
        let host = Self { serving, address: nowhere, errors, untraced };
        host.wait_until_ready(transport)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn stdout(&mut self) -> Option<ChildStdout> {
        match &mut self.serving {
            Serving::Traced(tracee) => tracee.stdout(),
            Serving::Plain(server) => server.stdout(),
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
        let words = self.errors.last_line();
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
            Some(status) if status.code() == Some(Unsupported::CODE.into()) => {
                Unsupported(words.unwrap_or("no reason given".to_owned()))
                    .into()
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
        match &self.serving {
            Serving::Traced(tracee) => tracee.pid(),
            Serving::Plain(server) => server.leader(),
        }
    }

    /// Of a server that has ended.
    fn status(self) -> Result<Option<ExitStatus>> {
        Ok(match self.serving {
            Serving::Traced(tracee) => Some(tracee.wait()?.status),
            Serving::Plain(mut server) => server.status(),
        })
    }

    /// Stops it, and says what it has done, as far as that was seen.
    pub fn stop(self) -> Result<Vec<Event>> {
        match self.serving {
            Serving::Traced(tracee) => Ok(tracee.stop()?.events),
            // Stopping is not what is shown.
            Serving::Plain(plain) => {
                drop(plain);
                Ok(Vec::new())
            }
        }
    }
}
