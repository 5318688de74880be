//! A server while it is measured: started on its own processors, watched, and
//! stopped.

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

/// The state of a server with which something went wrong.
#[derive(Debug, Default)]
pub struct Fate {
    /// How it ended, if it did.
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
            write!(f, "; it said: {words}")?;
        }
        Ok(())
    }
}

/// How long memory may take to come to rest: what ended before is still being
/// freed.
const SETTLE: Duration = Duration::from_millis(50);

/// How long the end of a server that is about to end may take.
const A_MOMENT: Duration = Duration::from_millis(100);

impl Serving {
    /// Starts it on some processors, on any of them if none are named, and
    /// waits until it listens.
    pub fn start(
        contender: &Contender,
        workload: &Workload,
        processors: Option<CpuSet>,
    ) -> Result<Self> {
        let (mut command, address) = contender.command(workload)?;
        let mut command_line = server::words(&command);
        if let Some(address) = address {
            // Another one each time.
            let port = address.port().to_string();
            command_line = command_line.replace(&port, "PORT");
        }
        let errors = Errors::new()?;
        command.stdin(Stdio::null()).stderr(errors.stdio()?);
        command.stdout(match address {
            None => Stdio::piped(),
            // No ready line is expected; Redis says here what is wrong.
            Some(_) => errors.stdio()?,
        });
        let pin = move || {
            if let Some(processors) = &processors {
                sched_setaffinity(Pid::from_raw(0), processors)?;
            }
            Ok(())
        };
        // SAFETY: one system call, on values made before the fork.
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

    /// Its end, if it has ended, and its last message.
    pub fn fate(&mut self) -> Fate {
        // Its sockets are closed some time before it has ended.
        self.server.ends_within(A_MOMENT);
        Fate {
            status: self.server.status(),
            last_line: self.server.errors.last_line(),
        }
    }

    pub fn usage(&self) -> Usage {
        Usage::of_group(self.leader())
    }

    /// Its memory and the kernel's, some time after the last request.
    pub fn memory(&self) -> Result<Memory> {
        thread::sleep(SETTLE);
        Memory::of_group(self.leader())
    }

    /// Asks it to stop, and says how often all its threads and those of its
    /// children, ended ones included, have been switched from. One that does
    /// not stop is killed: stopping is not what is measured.
    pub fn stop(mut self) -> Result<u64> {
        let before = children_switches()?;
        self.server.stop()?;
        Ok(children_switches()? - before)
    }
}

/// Waits until a server that says nothing when it is ready can be connected
/// to.
fn wait_until_it_listens(
    server: &mut Server,
    address: SocketAddr,
) -> Result<SocketAddr> {
    process::poll_until("a server that listens", PATIENCE, || {
        let listens = TcpStream::connect(address).is_ok();
        if !listens && server.status().is_some() {
            return Err(server.ended_early());
        }
        Ok(listens)
    })?;
    Ok(address)
}

/// Those of processes that this one has waited for, and theirs in turn: see
/// getrusage(2).
fn children_switches() -> Result<u64> {
    use nix::sys::resource::{UsageWho, getrusage};

    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let switches = usage.voluntary_context_switches()
        + usage.involuntary_context_switches();
    Ok(switches.cast_unsigned())
}
