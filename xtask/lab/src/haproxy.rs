//! HAProxy in front of three servers, with the configuration that
//! docs/scale-out.md explains.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::server::{Errors, PATIENCE, Server, tie};
use crate::{Unsupported, process};

const CONFIGURATION: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/haproxy.cfg");

/// The servers' names in the configuration.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// Finds the program on the PATH.
///
/// # Errors
///
/// [`Unsupported`] if it is missing.
fn program() -> Result<PathBuf> {
    let missing = || Unsupported::Tool("haproxy is not on the PATH".to_owned());
    Ok(process::which("haproxy").ok_or_else(missing)?)
}

/// A running HAProxy. Dropping it kills it.
#[derive(Debug)]
pub struct Haproxy {
    server: Server,
    /// The address for clients.
    pub clients: SocketAddr,
    /// The address for commands, see HAProxy's Management Guide, 9.3.
    commands: SocketAddr,
}

impl Haproxy {
    /// Starts it in front of these servers, and waits until it answers
    /// commands.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if haproxy is not on the PATH; HAProxy's own messages if
    /// it ends at once.
    pub fn start(servers: [SocketAddr; 3]) -> Result<Self> {
        let program = program()?;
        // HAProxy can't bind port 0, so it inherits listeners that have ports.
        // It rejects descriptors with a number that is higher than any it
        // expects to use, so they are its standard input and output.
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (front, stats) = (listen()?, listen()?);
        let addresses = (front.local_addr()?, stats.local_addr()?);
        let errors = Errors::new()?;
        let mut command = Command::new(program);
        command
            .args(["-db", "-f", CONFIGURATION])
            .env("FRONT", "fd@0")
            .env("STATS", "fd@1")
            .stdin(OwnedFd::from(front))
            .stdout(OwnedFd::from(stats))
            .stderr(errors.stdio()?);
        for (number, server) in (1..).zip(servers) {
            command.env(format!("SERVER_{number}"), server.to_string());
        }
        tie(&mut command, Signal::SIGKILL);
        let server = Server::spawn(command, errors)?;
        let (clients, commands) = addresses;
        let haproxy = Self { server, clients, commands };
        match haproxy.status(0) {
            Err(_) if haproxy.server.ends_within(PATIENCE) => {
                bail!("haproxy: {}", haproxy.messages())
            }
            status => status.map(|_| haproxy),
        }
    }

    /// Returns the id of its process.
    pub fn pid(&self) -> Pid {
        self.server.leader()
    }

    /// Returns its messages, such as those about servers that are down.
    pub fn messages(&self) -> String {
        self.server.errors.text().trim().to_owned()
    }

    /// Returns the status of a server by its place in [`start`](Self::start):
    /// `UP` or `DOWN`, and in between `UP 1/2` or `DOWN 1/2`.
    pub fn status(&self, server: usize) -> Result<String> {
        let table = self.ask("show stat\n").context("asking HAProxy")?;
        let mut rows = table.lines().map(|line| line.split(','));
        let mut header = rows.next().context("an empty table")?;
        let column = header.position(|name| name == "status");
        let column = column.context("no column `status`")?;
        let name = NAMES.get(server).context("a server's place")?;
        let mut row = rows
            .find(|row| row.clone().nth(1) == Some(name))
            .with_context(|| format!("no server {name}"))?;
        Ok(row.nth(column).context("a short row")?.to_owned())
    }

    /// Sends a command, and returns the reply, which ends at EOF.
    fn ask(&self, command: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.commands, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(command.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    }
}
