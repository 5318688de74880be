//! Runs a server for a measurement: starts it on its own processors, reads its
//! usage, and shuts it down.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, thread};

use anyhow::{Context, Result};
use lab::process;
use lab::server::{self, Errors, PATIENCE, Server};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::contender::Contender;
use super::usage::{Memory, Usage};
use super::workload::Workload;

/// A server on its own processors.
#[derive(Debug)]
pub struct Serving {
    server: Server,
    pub address: SocketAddr,
    pub command_line: String,
}

/// The state of a server after an error.
#[derive(Debug, Default)]
pub struct Fate {
    /// Its exit status, if it has ended.
    pub status: Option<ExitStatus>,
    /// The last line on its standard error.
    pub last_line: Option<String>,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "; the server ended with {status}")?;
        }
        if let Some(words) = &self.last_line {
            write!(f, "; its last message: {words}")?;
        }
        Ok(())
    }
}

/// The time until memory of earlier connections is freed.
const SETTLE: Duration = Duration::from_millis(50);

/// The time that a server needs to end after it has closed its sockets.
const A_MOMENT: Duration = Duration::from_millis(100);

impl Serving {
    /// Starts the server on these processors, or on any if None, and waits
    /// until it listens.
    pub fn start(
        contender: &Contender,
        workload: &Workload,
        processors: Option<CpuSet>,
    ) -> Result<Self> {
        let (mut command, address) = contender.command(workload)?;
        let mut command_line = server::words(&command);
        if let Some(address) = address {
            // The port differs each time.
            let port = address.port().to_string();
            command_line = command_line.replace(&port, "PORT");
        }
        let errors = Errors::new()?;
        command.stdin(Stdio::null()).stderr(errors.stdio()?);
        command.stdout(match address {
            None => Stdio::piped(),
            // Redis prints no ready line, but its errors, to standard output.
            Some(_) => errors.stdio()?,
        });
        let pin = move || {
            if let Some(processors) = &processors {
                sched_setaffinity(Pid::from_raw(0), processors)?;
            }
            Ok(())
        };
        // SAFETY: makes one system call, on values made before the fork.
        unsafe { command.pre_exec(pin) };
        server::tie(&mut command, Signal::SIGKILL);
        let mut server = Server::spawn(command, errors)?;
        let address = match address {
            Some(address) => wait_until_it_listens(&mut server, address)?,
            None => server.wait_until_ready()?.address(workload.transport())?,
        };
        Ok(Self { server, address, command_line })
    }

    pub fn leader(&self) -> Pid {
        self.server.leader()
    }

    /// Returns its exit status, if it has ended, and its last message.
    pub fn fate(&mut self) -> Fate {
        // A process closes its sockets some time before its end is reported.
        self.server.ends_within(A_MOMENT);
        Fate {
            status: self.server.status(),
            last_line: self.server.errors.last_line(),
        }
    }

    pub fn usage(&self) -> Usage {
        Usage::of_group(self.leader())
    }

    /// Returns its memory and the kernel's, some time after the last request.
    pub fn memory(&self) -> Result<Memory> {
        thread::sleep(SETTLE);
        Memory::of_group(self.leader())
    }

    /// Shuts it down, and returns the number of context switches of all its
    /// threads and processes, ended ones included. Kills a server that doesn't
    /// end in time, because its shutdown isn't measured.
    pub fn stop(mut self) -> Result<u64> {
        let before = children_switches()?;
        self.server.stop()?;
        Ok(children_switches()? - before)
    }
}

/// Waits until a server without a ready line accepts connections.
fn wait_until_it_listens(
    server: &mut Server,
    address: SocketAddr,
) -> Result<SocketAddr> {
    process::poll_until("listening server", PATIENCE, || {
        let listens = TcpStream::connect(address).is_ok();
        if !listens && server.status().is_some() {
            return Err(server.ended_early());
        }
        Ok(listens)
    })?;
    Ok(address)
}

/// Returns the context switches of all descendants that have been waited for,
/// see RUSAGE_CHILDREN in getrusage(2).
fn children_switches() -> Result<u64> {
    use nix::sys::resource::{UsageWho, getrusage};

    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let switches = usage.voluntary_context_switches()
        + usage.involuntary_context_switches();
    Ok(switches.cast_unsigned())
}
