//! A server under test, and the guard that none outlives its case.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab::process::{self, Process};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::PATIENCE;
use super::bytes::show;
use super::client::Client;
use super::datagrams::Peer;
use super::interrupt;
use super::skip::skip;
use super::tail::Tail;

/// Exit code of a model that this kernel cannot run.
pub const UNSUPPORTED: i32 = 77;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Checks the exit code, and that nothing was said on standard output. A
    /// program that this kernel cannot run skips the case, unless that is
    /// what was expected.
    pub fn expect(self, code: i32) -> Result<Self> {
        if self.status.code() == Some(UNSUPPORTED) && code != UNSUPPORTED {
            return Err(cannot_run(&self.stderr));
        }
        ensure!(
            self.status.code() == Some(code),
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

    /// Checks that standard error names each of `words`.
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

/// Skips the case of a program that this kernel cannot run: its last line says
/// why.
fn cannot_run(stderr: &str) -> anyhow::Error {
    let line = stderr.trim().lines().last().unwrap_or("it does not say why");
    skip(format!("cannot run: {}", lab::server::without_prefix(line)))
}

/// Where a server listens, as its ready line says.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
}

impl Ready {
    /// `ready tcp=ADDRESS udp=ADDRESS`, with those that were asked for, in
    /// this order, and nothing else.
    fn parse(line: &str, tcp: bool, udp: bool) -> Result<Self> {
        let mut words = line.strip_suffix('\n').context("no end")?.split(' ');
        ensure!(words.next() == Some("ready"), "it must begin with ready");
        let mut address = |name: &str| -> Result<Option<SocketAddr>> {
            let word = words.next().with_context(|| format!("no {name}"))?;
            let address: SocketAddr = word
                .strip_prefix(name)
                .with_context(|| format!("expected {name}, seen {word}"))?
                .parse()
                .with_context(|| format!("not an address: {word}"))?;
            ensure!(address.port() != 0, "port 0 is nobody's: {word}");
            Ok(Some(address))
        };
        let ready = Self {
            tcp: if tcp { address("tcp=")? } else { None },
            udp: if udp { address("udp=")? } else { None },
        };
        ensure!(words.next().is_none(), "it must end there");
        Ok(ready)
    }
}

/// A running server. Dropped, it is killed with all its children.
#[derive(Debug)]
pub struct Server {
    pub pid: Pid,
    /// How it was started, for people to repeat.
    pub command_line: String,
    child: RefCell<Child>,
    stdout: RefCell<ChildStdout>,
    stderr: Tail,
    /// Readable once the process has ended.
    end: OwnedFd,
    status: RefCell<Option<ExitStatus>>,
    /// Nothing is left of its group, whose number may be another's by now.
    gone: Cell<bool>,
    ready: RefCell<Ready>,
}

impl Server {
    /// Starts `command`, which is [tied to us](lab::server::tie).
    pub fn spawn(mut command: Command, command_line: String) -> Result<Self> {
        let mut child = interrupt::spawn(&mut command)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        Ok(Self {
            pid,
            command_line,
            child: RefCell::new(child),
            stdout: RefCell::new(stdout),
            stderr: Tail::follow(stderr)?,
            end: process::pidfd(pid)?,
            status: RefCell::default(),
            gone: Cell::default(),
            ready: RefCell::default(),
        })
    }

    /// Waits for the ready line, which must name the services that were asked
    /// for.
    pub fn wait_until_ready(&self, tcp: bool, udp: bool) -> Result<()> {
        let line = self.ready_line()?;
        let ready = Ready::parse(&line, tcp, udp)
            .with_context(|| format!("the ready line was {line:?}"))?;
        *self.ready.borrow_mut() = ready;
        Ok(())
    }

    fn ready_line(&self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut stdout = self.stdout.borrow_mut();
        let mut line = Vec::new();
        // Byte by byte: what follows the line stays unread.
        while line.last() != Some(&b'\n') {
            ensure!(
                process::wait_readable(&*stdout, deadline)?,
                "waited {PATIENCE:?} in vain for the ready line"
            );
            let mut byte = [0];
            if stdout.read(&mut byte).context("reading the ready line")? == 0 {
                drop(stdout);
                return Err(self.why_not_ready(&line));
            }
            line.push(byte[0]);
        }
        String::from_utf8(line).context("the ready line")
    }

    /// The story of a server that ended instead of getting ready. One that
    /// says that this kernel cannot run it has not failed.
    fn why_not_ready(&self, line: &[u8]) -> anyhow::Error {
        match self.wait() {
            Ok(ended) if ended.status.code() == Some(UNSUPPORTED) => {
                cannot_run(&ended.stderr)
            }
            Ok(ended) => anyhow!(
                "it ended instead of getting ready: {}, after saying {}",
                ended.status,
                show(line)
            ),
            Err(error) => error.context("it closed its standard output"),
        }
    }

    pub fn tcp(&self) -> Result<SocketAddr> {
        self.ready.borrow().tcp.context("the server has no tcp address")
    }

    pub fn udp(&self) -> Result<SocketAddr> {
        self.ready.borrow().udp.context("the server has no udp address")
    }

    pub fn connect(&self) -> Result<Client> {
        Client::connect(self.tcp()?)
    }

    /// A datagram socket that talks to the server.
    pub fn peer(&self) -> Result<Peer> {
        Peer::new(self.udp()?)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("sending {signal}"))
    }

    /// Sends a signal and waits until the server has taken it: of two that are
    /// pending at once, one would be dropped.
    pub fn signal_and_wait(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        process::poll_until("the signal to be taken", PATIENCE, || {
            Ok(!self.process()?.has_pending(signal)?)
        })
    }

    /// Stops the server, its children included, and comes back when all have
    /// stopped.
    pub fn freeze(&self) -> Result<()> {
        killpg(self.pid, Signal::SIGSTOP).context("sending SIGSTOP")?;
        process::poll_until("the server to stop", PATIENCE, || {
            Ok(self.group().iter().all(|process| process.state == 'T'))
        })
    }

    pub fn thaw(&self) -> Result<()> {
        killpg(self.pid, Signal::SIGCONT).context("sending SIGCONT")
    }

    /// The server's own process.
    pub fn process(&self) -> Result<Process> {
        Process::read(self.pid).context("the server has gone")
    }

    /// The server and its children, zombies included.
    pub fn group(&self) -> Vec<Process> {
        process::group(self.pid)
    }

    pub fn memory(&self) -> u64 {
        process::group_memory(self.pid)
    }

    pub fn cpu_time(&self) -> Duration {
        process::group_cpu_time(self.pid)
    }

    /// What it has said on standard error so far.
    pub fn stderr(&self) -> &Tail {
        &self.stderr
    }

    /// Waits for the process to end and checks that it left nobody behind:
    /// no child, no zombie.
    pub fn wait(&self) -> Result<Ended> {
        ensure!(
            process::wait_readable(&self.end, Instant::now() + PATIENCE)?,
            "waited {PATIENCE:?} in vain for the server to end"
        );
        let status = self.child.borrow_mut().wait().context("wait")?;
        *self.status.borrow_mut() = Some(status);
        self.expect_nobody_left(status)?;
        self.gone.set(true);
        self.stderr.wait_for_end()?;
        let stdout = self.unread_stdout()?;
        Ok(Ended { status, stdout, stderr: self.stderr.text() })
    }

    /// A server that ends in order has waited for its children. One that was
    /// told twice has not; they die with it, but the kernel takes its time.
    fn expect_nobody_left(&self, status: ExitStatus) -> Result<()> {
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

    /// What came behind the ready line. The end may take a moment: a process
    /// that the suite is about to start elsewhere holds a copy of the pipe
    /// between its fork and its exec.
    fn unread_stdout(&self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut stdout = self.stdout.borrow_mut();
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            ensure!(
                process::wait_readable(&*stdout, deadline)?,
                "standard output is still open: somebody is left"
            );
            match stdout.read(&mut buffer).context("standard output")? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Asks the server to stop, unless it has ended already. It must exit
    /// with 0 and leave nothing behind.
    pub fn stop(&self) -> Result<()> {
        if self.status.borrow().is_some() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        self.wait()?.expect(0)?;
        Ok(())
    }

    /// How it ended, for a report.
    pub fn fate(&self) -> String {
        match *self.status.borrow() {
            Some(status) => match status.signal() {
                Some(signal) => format!("killed by signal {signal}"),
                None => status.to_string(),
            },
            None => match process::wait_readable(&self.end, Instant::now()) {
                Ok(true) => "ended by itself".to_owned(),
                _ => "running".to_owned(),
            },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.gone.get() {
            process::end_group(self.pid);
        }
        let _ = self.child.get_mut().wait();
        interrupt::forget(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_names_what_was_asked_for() {
        let both = "ready tcp=127.0.0.1:1 udp=[::1]:2\n";
        let ready = Ready::parse(both, true, true).unwrap();
        assert_eq!(ready.tcp, Some(([127, 0, 0, 1], 1).into()));
        assert_eq!(ready.udp, Some("[::1]:2".parse().unwrap()));
        for (line, tcp, udp) in [
            (both, true, false),
            (both, false, true),
            ("ready udp=[::1]:2 tcp=127.0.0.1:1\n", true, true),
            ("ready tcp=127.0.0.1:1", true, false),
            ("ready tcp=127.0.0.1:0\n", true, false),
            ("ready  tcp=127.0.0.1:1\n", true, false),
            ("ready tcp=127.0.0.1:1 \n", true, false),
            ("Ready tcp=127.0.0.1:1\n", true, false),
            ("ready\n", true, false),
        ] {
            let ready = Ready::parse(line, tcp, udp);
            assert!(ready.is_err(), "{line:?} parsed");
        }
    }
}
