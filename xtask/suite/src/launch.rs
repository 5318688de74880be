//! How a server is started: its command line, its limits, its faults.

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

/// A server that will be started.
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
    heritage: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl<'a> Launch<'a> {
    /// Launches for streams on 127.0.0.1 and a port that the kernel picks.
    pub fn new(subject: &'a Subject, servers: &'a Servers) -> Self {
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
            heritage: Box::new(|| Ok(())),
        }
    }

    /// Launches an example in the model's place.
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

    /// Serves datagrams and nothing else.
    pub fn only_udp(mut self, address: impl ToString) -> Self {
        self.tcp = None;
        self.udp(address)
    }

    /// Leaves out all flags but those that choose the variant.
    pub fn no_flags(mut self) -> Self {
        self.tcp = None;
        self
    }

    /// Adds flags, with blanks between them.
    pub fn flags(mut self, flags: &str) -> Self {
        self.flags.extend(flags.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds the flags with which the model uses no CPU time while nobody says
    /// anything. All but those that never wait do that anyway.
    pub fn resting(mut self) -> Self {
        self.flags.extend(self.subject.model.rests_with.iter().cloned());
        self
    }

    /// Sets the limits on open files, soft and hard: servers raise the soft
    /// one.
    pub fn descriptors(mut self, soft: u64, hard: u64) -> Self {
        self.limits.push(("nofile", Resource::RLIMIT_NOFILE, soft, hard));
        self
    }

    /// Limits queued signals. The kernel counts those of all the user's
    /// processes, and compares with the limit of the one that gets the signal
    /// (getrlimit(2)).
    pub fn signals_pending(mut self, limit: u64) -> Self {
        let resource = Resource::RLIMIT_SIGPENDING;
        self.limits.push(("sigpending", resource, limit, limit));
        self
    }

    /// Adds system calls that fail once the fault is switched on.
    pub fn fault(mut self, fault: &'a Arc<Fault>) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Calls a function in the new process just before it becomes the server.
    /// It makes async-signal-safe calls only.
    pub fn inheriting(
        mut self,
        heritage: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.heritage = Box::new(heritage);
        self
    }

    /// Starts the server, which must say that it is ready. The trial stops it
    /// when the case is over.
    pub fn start(self) -> Result<Rc<Server>> {
        // A model that is given no address has a default one, for streams.
        let udp = self.udp.is_some();
        let tcp = self.tcp.is_some() || !udp;
        // Kept at once, so that a failure shows what it said.
        let servers = self.servers;
        let server = servers.keep(self.spawn()?);
        server.wait_until_ready(tcp, udp)?;
        Ok(server)
    }

    /// Starts a program that must not serve but end by itself.
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
        let (limits, heritage) = (self.limits, self.heritage);
        let (mut filter, judge) =
            self.fault.map(|fault| fault.prepare()).transpose()?.unzip();
        let before_exec = move || {
            for (_, resource, soft, hard) in &limits {
                setrlimit(*resource, *soft, *hard)?;
            }
            if let Some(filter) = &mut filter {
                filter.install()?;
            }
            heritage()
        };
        // SAFETY: system calls only, on values made before the fork.
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

/// Skips the case where the kernel refuses the filter, or a container's rules
/// do: no fault can be injected.
fn skip_without_filter(error: anyhow::Error) -> anyhow::Error {
    let refused = error.downcast_ref::<io::Error>().and_then(|error| {
        let errno = error.raw_os_error()?;
        [libc::EACCES, libc::EINVAL, libc::ENOSYS, libc::EPERM]
            .contains(&errno)
            .then(|| skip(format!("no seccomp filter here: {error}")))
    });
    refused.unwrap_or(error)
}
