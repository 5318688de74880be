//! A server under test, which never outlives its case.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::Unsupported;
use lab::model::Transport;
use lab::process::{self, Process};
use lab::server::{self, Errors, Ready};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::PATIENCE;
use super::client::Client;
use super::datagrams::Peer;
use super::skip::skip;

/// The exit status of a program, and its output.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    /// Standard output after the ready line.
    pub stdout: String,
    pub stderr: String,
}

impl End {
    /// Checks the exit code, and that standard output is empty. Skips the case
    /// if this kernel cannot run the program, unless that was expected.
    pub fn expect(self, code: u8) -> Result<Self> {
        let seen = self.status.code();
        let unsupported = i32::from(Unsupported::CODE);
        if seen == Some(unsupported) && code != Unsupported::CODE {
            let line = self.stderr.trim().lines().last();
            let why = line.unwrap_or("no reason given");
            let why = server::without_prefix(why);
            return Err(skip(format!("cannot run: {why}")));
        }
        ensure!(
            seen == Some(code.into()),
            "expected exit code {code}, seen {}",
            self.status
        );
        ensure!(
            self.stdout.is_empty(),
            "expected nothing more on standard output, seen {:?}",
            self.stdout
        );
        Ok(self)
    }

    /// Checks that standard error contains each of `words`.
    pub fn says(self, words: &[&str]) -> Result<Self> {
        for word in words {
            ensure!(
                self.stderr.contains(word),
                "expected {word:?} on standard error, seen:\n{}",
                self.stderr
            );
        }
        Ok(self)
    }
}

/// The servers that a trial has started.
#[derive(Debug, Default)]
pub struct Servers(RefCell<Vec<Rc<Server>>>);

impl Servers {
    pub fn keep(&self, server: Server) -> Rc<Server> {
        let server = Rc::new(server);
        self.0.borrow_mut().push(Rc::clone(&server));
        server
    }

    pub fn all(&self) -> Vec<Rc<Server>> {
        self.0.borrow().clone()
    }
}

/// A running server. Dropping it kills it with all its children.
#[derive(Debug)]
pub struct Server {
    pub pid: Pid,
    /// The command that started it, for people to repeat.
    pub command_line: String,
    /// True if it serves one client at a time.
    pub serves_one: bool,
    /// True for a minimal program, which is killed by SIGTERM.
    pub is_minimal: bool,
    pub stderr: Errors,
    stdout: File,
    child: RefCell<Child>,
    ready: OnceCell<Ready>,
    /// True once nothing is left of its process group. The number may be reused
    /// by then.
    gone: Cell<bool>,
}

impl Server {
    /// Starts a command that [`server::command`] has made with this `stderr`.
    pub fn spawn(
        mut command: Command,
        command_line: String,
        serves_one: bool,
        stderr: Errors,
    ) -> Result<Self> {
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command_line}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            pid: server::pid(&child),
            command_line,
            serves_one,
            is_minimal: false,
            stderr,
            stdout: OwnedFd::from(stdout).into(),
            child: RefCell::new(child),
            ready: OnceCell::new(),
            gone: Cell::new(false),
        })
    }

    /// Waits for the ready line, which must name exactly the requested
    /// services.
    pub fn wait_until_ready(&self, tcp: bool, udp: bool) -> Result<()> {
        let Some(ready) = server::wait_until_ready(&self.stdout)? else {
            let end = self.wait().context("it closed its standard output")?;
            end.expect(0).context("it exited before it was ready")?;
            bail!("it exited with 0 before it was ready");
        };
        let services = (ready.tcp.is_some(), ready.udp.is_some());
        ensure!(services == (tcp, udp), "unexpected services: {ready:?}");
        self.ready.get_or_init(|| ready);
        Ok(())
    }

    pub fn tcp(&self) -> Result<SocketAddr> {
        self.address(Transport::Tcp)
    }

    pub fn udp(&self) -> Result<SocketAddr> {
        self.address(Transport::Udp)
    }

    fn address(&self, transport: Transport) -> Result<SocketAddr> {
        self.ready.get().context("it is not ready")?.address(transport)
    }

    /// Returns `most`, or 1 if the server serves one client at a time.
    pub fn clients(&self, most: usize) -> usize {
        if self.serves_one { 1 } else { most }
    }

    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.tcp()?)
    }

    /// Connects several clients.
    pub fn connect_many(&self, count: usize) -> Result<Vec<Client>> {
        (0..count).map(|_| self.connect()).collect()
    }

    /// Connects several clients and waits until each is served.
    pub fn connect_served(&self, count: usize) -> Result<Vec<Client>> {
        let mut clients = self.connect_many(count)?;
        Client::ping_all(&mut clients)?;
        Ok(clients)
    }

    /// Connects new clients, `at_a_time` together, until there are `count` of
    /// them or one is rejected. Returns whether all were served.
    pub fn bring(
        &self,
        clients: &mut Vec<Client>,
        count: usize,
        at_a_time: usize,
    ) -> Result<bool> {
        let mut all = true;
        while all && clients.len() < count {
            let mut new_clients = Vec::new();
            for _ in 0..at_a_time.min(count - clients.len()) {
                new_clients.push(self.new_client()?);
            }
            for mut client in new_clients {
                let name = || format!("after {} clients", clients.len());
                if client.was_served().with_context(name)? {
                    ensure!(all, "served after others were rejected");
                    clients.push(client);
                } else {
                    all = false;
                }
            }
        }
        Ok(all)
    }

    /// Connects a client that sends a request at once. It is
    /// [served](Client::was_served) or rejected.
    pub fn new_client(&self) -> Result<Client> {
        let mut client = self.connect()?;
        // A rejection may be followed by a reset, if this request crosses it.
        let _ = client.send("PING\r\n");
        Ok(client)
    }

    /// Connects this many clients, one by one, and returns those that are
    /// served.
    pub fn admitted(&self, new_clients: usize) -> Result<Vec<Client>> {
        let mut served = Vec::new();
        for number in 0..new_clients {
            let mut client = self.new_client()?;
            let name = || format!("new client {number}");
            if client.was_served().with_context(name)? {
                served.push(client);
            }
        }
        Ok(served)
    }

    /// Connects clients until one is served. The release of a connection is not
    /// visible from outside, so this polls.
    pub fn wait_for_place(&self) -> Result<Client> {
        let mut served = None;
        process::poll_until("a client to be served", PATIENCE, || {
            served = self.admitted(1)?.pop();
            Ok(served.is_some())
        })?;
        served.context("no client was served")
    }

    /// Opens a datagram socket for requests to the server.
    pub fn peer(&self) -> Result<Peer> {
        Peer::new(self.udp()?)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("sending {signal}"))
    }

    /// Requests shutdown.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends a signal and waits until the server has taken it: while it is
    /// pending, a second one would be dropped.
    pub fn signal_and_wait(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        process::poll_until("the signal to be taken", PATIENCE, || {
            Ok(!self.process()?.has_pending(signal)?)
        })
    }

    /// Stops the server and its children with SIGSTOP, and returns when all
    /// have stopped.
    pub fn freeze(&self) -> Result<()> {
        killpg(self.pid, Signal::SIGSTOP).context("sending SIGSTOP")?;
        process::poll_until("the server to stop", PATIENCE, || {
            Ok(self.group().iter().all(|process| process.state == 'T'))
        })
    }

    pub fn thaw(&self) -> Result<()> {
        killpg(self.pid, Signal::SIGCONT).context("sending SIGCONT")
    }

    /// Reads the server's own process from /proc.
    pub fn process(&self) -> Result<Process> {
        Process::read(self.pid).context("the server has ended")
    }

    /// Lists the server and its children, zombies included.
    pub fn group(&self) -> Vec<Process> {
        process::group(self.pid)
    }

    pub fn memory(&self) -> u64 {
        process::group_memory(self.pid)
    }

    /// Waits for the process to end and checks that it left no child and no
    /// zombie.
    pub fn wait(&self) -> Result<End> {
        ensure!(
            server::ends_within(self.pid, PATIENCE),
            "the server has not ended within {PATIENCE:?}"
        );
        let status = self.child.borrow_mut().wait().context("wait")?;
        self.expect_no_process_left(status)?;
        self.gone.set(true);
        let stdout = self.unread_stdout()?;
        Ok(End { status, stdout, stderr: self.stderr.text() })
    }

    /// Waits for the process to end with an exit code, see [`Self::wait`] and
    /// [`End::expect`].
    pub fn expect_exit(&self, code: u8) -> Result<()> {
        self.wait()?.expect(code).map(drop)
    }

    /// Checks that no child is left. A server that exits with 0 has waited for
    /// its children. After a second signal it has not; the children are killed
    /// with it, which takes the kernel a moment.
    fn expect_no_process_left(&self, status: ExitStatus) -> Result<()> {
        if status.code() != Some(0) {
            let patience = Duration::from_secs(2);
            return process::poll_until("its children's end", patience, || {
                process::reap_group(self.pid);
                Ok(!process::group_exists(self.pid))
            });
        }
        if process::group_exists(self.pid) {
            let left = process::list(&self.group());
            bail!("the server has ended and left behind {left}");
        }
        Ok(())
    }

    /// Reads the output after the ready line. EOF may take a moment: a process
    /// that the suite is about to start elsewhere holds a copy of the pipe
    /// between its fork and its exec.
    fn unread_stdout(&self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            ensure!(
                process::wait_readable(&self.stdout, deadline)?,
                "standard output is still open: a process is left"
            );
            let mut stdout = &self.stdout;
            match stdout.read(&mut buffer).context("standard output")? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Terminates the server, unless its end was waited for already. It must
    /// exit with 0 and leave nothing behind.
    pub fn stop(&self) -> Result<()> {
        if self.gone.get() {
            return Ok(());
        }
        if self.is_minimal {
            killpg(self.pid, Signal::SIGTERM).context("sending SIGTERM")?;
            let End { status, stderr, .. } = self.wait()?;
            let killed = status.signal() == Some(Signal::SIGTERM as i32);
            ensure!(killed, "it ended with {status}: {stderr}");
            return Ok(());
        }
        self.terminate()?;
        self.expect_exit(0)
    }

    /// Returns its exit status or `running`, for a report.
    pub fn fate(&self) -> String {
        match self.child.borrow_mut().try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "running".to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.gone.get() {
            process::end_group(self.pid);
        }
        let _ = self.child.get_mut().wait();
    }
}
