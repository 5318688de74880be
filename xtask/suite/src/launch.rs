//! How a server is started: its command line, its limits and its faults.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use lab::server::{self, Errors};
use nix::sys::resource::{Resource, setrlimit};

use super::fault::{Fault, Judge};
use super::server::{End, Server, Servers};
use super::skip::skip;
use super::subject::{Example, Subject};

/// A server that is to be started.
pub struct Launch<'a> {
    subject: &'a Subject,
    servers: &'a Servers,
    program: &'a Path,
    arguments: &'a [String],
    is_minimal: bool,
    tcp: Option<String>,
    udp: Option<String>,
    flags: Vec<String>,
    limits: Vec<(&'static str, Resource, u64, u64)>,
    fault: Option<&'a Arc<Fault>>,
    inherited: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// The number of workers, if the model has a pool.
    workers: usize,
}

impl<'a> Launch<'a> {
    /// Prepares a stream server on 127.0.0.1, on a port that the kernel
    /// chooses.
    pub fn new(
        subject: &'a Subject,
        servers: &'a Servers,
        workers: usize,
    ) -> Self {
        Self {
            subject,
            servers,
            program: &subject.program,
            arguments: &subject.variant.args,
            is_minimal: false,
            tcp: Some("127.0.0.1:0".to_owned()),
            udp: None,
            flags: Vec::new(),
            limits: Vec::new(),
            fault: None,
            inherited: Box::new(|| Ok(())),
            workers,
        }
    }

    /// Starts a pool with this many workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Starts an example instead of the model.
    pub fn example(mut self, example: &'a Example) -> Self {
        self.program = &example.program;
        self.arguments = &[];
        self.is_minimal = true;
        self
    }

    pub fn tcp(mut self, address: impl ToString) -> Self {
        self.tcp = Some(address.to_string());
        self
    }

    pub fn udp(mut self, address: impl ToString) -> Self {
        self.udp = Some(address.to_string());
        self
    }

    /// Serves datagrams only.
    pub fn only_udp(mut self, address: impl ToString) -> Self {
        self.tcp = None;
        self.udp(address)
    }

    /// Omits all flags except those that choose the variant.
    pub fn no_flags(mut self) -> Self {
        self.tcp = None;
        self
    }

    /// Adds flags, separated by blanks.
    pub fn flags(mut self, flags: &str) -> Self {
        self.flags.extend(flags.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds the flags with which the model uses no CPU time while all clients
    /// are idle. Only models that never wait need any.
    pub fn resting(mut self) -> Self {
        self.flags.extend(self.subject.model.idle_flags.iter().cloned());
        self
    }

    /// Sets the soft and the hard limit on open files; servers raise the soft
    /// one.
    pub fn descriptors(mut self, soft: u64, hard: u64) -> Self {
        self.limits.push(("nofile", Resource::RLIMIT_NOFILE, soft, hard));
        self
    }

    /// Limits queued signals. The kernel counts those of all the user's
    /// processes, and compares the number with the limit of the receiving
    /// process (getrlimit(2)).
    pub fn signals_pending(mut self, limit: u64) -> Self {
        let resource = Resource::RLIMIT_SIGPENDING;
        self.limits.push(("sigpending", resource, limit, limit));
        self
    }

    /// Adds system calls that fail while the fault is on.
    pub fn fault(mut self, fault: &'a Arc<Fault>) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Calls a function in the new process just before exec. The function must
    /// make async-signal-safe calls only.
    pub fn inheriting(
        mut self,
        inherited: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.inherited = Box::new(inherited);
        self
    }

    /// Starts the server and waits until it is ready. The trial terminates it
    /// after the case.
    pub fn start(self) -> Result<Rc<Server>> {
        // Without an address, a model serves streams on its default address.
        let udp = self.udp.is_some();
        let tcp = self.tcp.is_some() || !udp;
        // Kept before it is ready, so that a failure report has its output.
        let servers = self.servers;
        let server = servers.keep(self.spawn()?);
        server.wait_until_ready(tcp, udp)?;
        Ok(server)
    }

    /// Starts a program that must exit by itself instead of serving.
    pub fn run(self) -> Result<End> {
        let servers = self.servers;
        servers.keep(self.spawn()?).wait()
    }

    fn spawn(self) -> Result<Server> {
        let mut arguments = self.arguments.to_vec();
        for (flag, address) in [("--tcp", &self.tcp), ("--udp", &self.udp)] {
            if let Some(address) = address {
                arguments.extend([flag.to_owned(), address.clone()]);
            }
        }
        if !self.is_minimal {
            arguments.extend(self.subject.model.pool_flags(self.workers));
        }
        arguments.extend(self.flags);
        let stderr = Errors::new()?;
        let mut command = server::command(self.program, &arguments, &stderr)?;

        let mut command_line = String::new();
        for (name, _, soft, hard) in &self.limits {
            command_line += &format!("prlimit --{name}={soft}:{hard} ");
        }
        command_line += &server::words(&command);
        if let Some(fault) = self.fault {
            command_line += &format!("    (with {fault})");
        }
        let (limits, inherited) = (self.limits, self.inherited);
        let (mut filter, judge) =
            self.fault.map(|fault| fault.prepare()).transpose()?.unzip();
        let before_exec = move || {
            for (_, resource, soft, hard) in &limits {
                setrlimit(*resource, *soft, *hard)?;
            }
            if let Some(filter) = &mut filter {
                filter.install()?;
            }
            inherited()
        };
        // SAFETY: system calls only, on values that were made before fork.
        unsafe { command.pre_exec(before_exec) };
        let mut server = Server::spawn(
            command,
            command_line,
            self.subject.serves_one(),
            stderr,
        );
        if let Ok(server) = &mut server {
            server.is_minimal = self.is_minimal;
        }
        let server = match self.fault {
            Some(_) => server.map_err(skip_without_filter)?,
            None => server?,
        };
        judge.map(Judge::start).transpose()?;
        Ok(server)
    }
}

/// Skips the case if the kernel or a container's seccomp profile denies the
/// filter, so that no fault can be injected.
fn skip_without_filter(error: anyhow::Error) -> anyhow::Error {
    let refused = error.downcast_ref::<io::Error>().and_then(|error| {
        let errno = error.raw_os_error()?;
        [libc::EACCES, libc::EINVAL, libc::ENOSYS, libc::EPERM]
            .contains(&errno)
            .then(|| skip(format!("cannot install a seccomp filter: {error}")))
    });
    refused.unwrap_or(error)
}
