//! A server while it is measured: started on its own processors, watched, and
//! stopped.

use std::fmt;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::model::Transport;
use lab::process;
use lab::server::{self, Ready};
use load::PATIENCE;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::contender::Contender;
use super::usage::{Memory, Usage};
use super::workload::Workload;

/// A server's process, its group, and what it says.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    pub address: SocketAddr,
    errors: File,
    pub command_line: String,
}

/// What became of a server with which something went wrong.
#[derive(Debug, Default)]
pub struct Story {
    /// How it ended, if it did.
    pub status: Option<ExitStatus>,
    /// The last line on its standard error.
    pub last_words: Option<String>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "; the server ended with {status}")?;
        }
        if let Some(words) = &self.last_words {
            write!(f, "; it said: {words}")?;
        }
        Ok(())
    }
}

/// The model says that this kernel can't run it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub String);

/// How long memory may take to come to rest: what ended before is still being
/// freed.
const SETTLE: Duration = Duration::from_millis(50);

/// How long the end of a server that is about to end may take.
const A_MOMENT: Duration = Duration::from_millis(100);

/// Longer than any drain: see `--drain-timeout`.
const PATIENCE_AT_END: Duration = Duration::from_secs(10);

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
        let errors: File = memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC)
            .context("memfd_create")?
            .into();
        command
            .stdin(Stdio::null())
            .stdout(match address {
                None => Stdio::piped(),
                // No ready line is expected; Redis says here what is wrong.
                Some(_) => errors.try_clone()?.into(),
            })
            .stderr(errors.try_clone()?);
        let pin = move || {
            if let Some(processors) = &processors {
                sched_setaffinity(Pid::from_raw(0), processors)?;
            }
            Ok(())
        };
        // SAFETY: one system call, on values made before the fork.
        unsafe { command.pre_exec(pin) };
        let child = server::tie(&mut command, Signal::SIGKILL)
            .spawn()
            .with_context(|| format!("cannot start {command_line}"))?;
        let mut serving = Self {
            child,
            address: address.unwrap_or(([127, 0, 0, 1], 0).into()),
            errors,
            command_line,
        };
        match address {
            Some(address) => serving.wait_until_it_listens(address)?,
            None => serving.wait_until_ready(workload.transport())?,
        }
        Ok(serving)
    }

    pub fn leader(&self) -> Pid {
        server::pid(&self.child)
    }

    fn wait_until_ready(&mut self, transport: Transport) -> Result<()> {
        let stdout = self.child.stdout.take().context("no output")?;
        let line = server::line_in_time(stdout, PATIENCE)?;
        if line.is_empty() {
            return Err(self.why_it_ended());
        }
        let ready: Ready = line.parse()?;
        let address = match transport {
            Transport::Tcp => ready.tcp,
            Transport::Udp => ready.udp,
        };
        self.address = address.context("ready, but on another transport")?;
        Ok(())
    }

    fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if self.has_ended()?.is_some() {
                return Err(self.why_it_ended());
            }
            ensure!(
                Instant::now() < deadline,
                "nobody listens after {} s",
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("waiting for the server")
    }

    /// What became of a server that is not ready and never will be.
    fn why_it_ended(&mut self) -> anyhow::Error {
        if !self.ends_within(PATIENCE) {
            return anyhow::anyhow!("closed its output, and is still there");
        }
        let status = self.child.wait();
        let words = server::last_words(&self.errors);
        let words = words.unwrap_or("no reason given".to_owned());
        match status {
            Ok(status) if status.code() == Some(server::CANNOT_RUN_HERE) => {
                CannotRun(words).into()
            }
            Ok(status) => anyhow::anyhow!("{status}: {words}"),
            Err(error) => error.into(),
        }
    }

    fn ends_within(&self, patience: Duration) -> bool {
        // Once it has been waited for, there is nothing to open.
        let Ok(end) = process::pidfd(self.leader()) else { return true };
        let deadline = Instant::now() + patience;
        process::wait_readable(&end, deadline).unwrap_or(false)
    }

    /// What has become of it.
    pub fn story(&mut self) -> Story {
        // Its sockets are closed some time before it has ended.
        self.ends_within(A_MOMENT);
        Story {
            status: self.has_ended().ok().flatten(),
            last_words: server::last_words(&self.errors),
        }
    }

    pub fn usage(&self) -> Usage {
        Usage::of_group(self.leader())
    }

    /// What it and the kernel hold, some time after the last request.
    pub fn memory(&self) -> Result<Memory> {
        thread::sleep(SETTLE);
        Memory::of_group(self.leader())
    }

    /// Asks it to stop, and says how often all its threads and those of its
    /// children, ended ones included, have been switched from. One that does
    /// not stop is killed: stopping is not what is measured.
    pub fn stop(mut self) -> Result<u64> {
        let before = children_switches()?;
        server::send(&self.child, Signal::SIGTERM);
        if !self.ends_within(PATIENCE_AT_END) {
            let _ = killpg(self.leader(), Signal::SIGKILL);
        }
        self.child.wait().context("waiting for the server")?;
        Ok(children_switches()? - before)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        process::end_group(self.leader());
        let _ = self.child.wait();
    }
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
