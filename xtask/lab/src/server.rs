//! Runs a server as a process: its start, its output and its end.
//!
//! [`command`] makes the command line and [`Server`] runs it. A tracer that has
//! to start the process itself uses [`command`], [`wait_until_ready`] and
//! [`ended_early`].

use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::Pid;

use crate::model::Transport;
use crate::{Unsupported, process};

/// The time within which a server must be ready, and must end after SIGTERM:
/// longer than any drain, see `--drain-timeout`.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The addresses in the ready line, which a model prints when all are bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    pub tcp: Option<SocketAddr>,
    pub udp: Option<SocketAddr>,
}

impl FromStr for Ready {
    type Err = anyhow::Error;

    /// Parses `ready tcp=127.0.0.1:40001 udp=127.0.0.1:40002` and a newline.
    /// One of the addresses may be missing.
    fn from_str(line: &str) -> Result<Self> {
        parse(line)
            .with_context(|| format!("expected a ready line, got {line:?}"))
    }
}

fn parse(line: &str) -> Result<Ready> {
    let words = line.strip_suffix('\n').context("it has no newline")?;
    let mut words = words.split(' ').peekable();
    ensure!(words.next() == Some("ready"), "it must begin with ready");
    let mut address = |name: &str| -> Result<Option<SocketAddr>> {
        let word = words.next_if(|word| word.starts_with(name));
        let Some(word) = word else { return Ok(None) };
        let address: SocketAddr = word[name.len()..]
            .parse()
            .with_context(|| format!("{word} has no address"))?;
        ensure!(address.port() != 0, "port 0 is not a bound port");
        Ok(Some(address))
    };
    let ready = Ready { tcp: address("tcp=")?, udp: address("udp=")? };
    ensure!(ready != Ready::default(), "it has no address");
    ensure!(words.next().is_none(), "it must end after the addresses");
    Ok(ready)
}

impl Ready {
    /// Returns the address for a transport that the server should serve.
    pub fn address(&self, transport: Transport) -> Result<SocketAddr> {
        let address = match transport {
            Transport::Tcp => self.tcp,
            Transport::Udp => self.udp,
        };
        address.with_context(|| format!("its ready line has no {transport}"))
    }
}

/// The standard error of a server, kept in memory up to 1 MiB. A write beyond
/// that fails with EPERM.
#[derive(Clone, Debug)]
pub struct Errors(Arc<File>);

/// Enough for hours, because a model logs at most one line per second.
const ERRORS: u64 = 1024 * 1024;

impl Errors {
    pub fn new() -> Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(c"stderr", flags).context("memfd_create")?;
        let file = File::from(file);
        file.set_len(ERRORS).context("the length of a memfd")?;
        let bound = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        fcntl(&file, FcntlArg::F_ADD_SEALS(bound)).context("F_ADD_SEALS")?;
        Ok(Self(Arc::new(file)))
    }

    /// Duplicates the descriptor, for a process to write to.
    pub fn stdio(&self) -> Result<Stdio> {
        Ok(self.0.try_clone().context("the server's stderr")?.into())
    }

    /// Returns everything that the server has written. The server's descriptors
    /// share their file offset with this one, so reading must not move it.
    pub fn text(&self) -> String {
        let length = (&*self.0).stream_position().unwrap_or(0);
        let mut text = vec![0; length as usize];
        let read = self.0.read_at(&mut text, 0).unwrap_or(0);
        String::from_utf8_lossy(&text[..read]).into_owned()
    }

    /// Returns the last line that the server has written, without the prefix
    /// `error: `.
    pub fn last_line(&self) -> Option<String> {
        let text = self.text();
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(without_prefix(line.trim()).to_owned())
    }

    /// Waits for a line that contains `words`, and returns it.
    pub fn wait_for(&self, words: &str) -> Result<String> {
        let mut found = None;
        let awaited = format!("{words:?} on standard error");
        process::poll_until(&awaited, PATIENCE, || {
            let text = self.text();
            let line = text.lines().find(|line| line.contains(words));
            found = line.map(str::to_owned);
            Ok(found.is_some())
        })?;
        found.context(awaited)
    }
}

/// Makes the command that starts a server. The server ends [with this
/// process](tie), its standard output is a pipe, and its errors are kept.
pub fn command(
    program: &Path,
    arguments: &[String],
    errors: &Errors,
) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.stdio()?);
    tie(&mut command, Signal::SIGKILL);
    Ok(command)
}

/// A running server. Dropping it kills the server and all its children.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub errors: Errors,
}

impl Server {
    /// Starts the command that [`command`] has made with these `errors`.
    pub fn spawn(mut command: Command, errors: Errors) -> Result<Self> {
        let child = command.spawn();
        let child = child
            .with_context(|| format!("cannot start {}", words(&command)))?;
        Ok(Self { child, errors })
    }

    /// Waits for the ready line. Fails with the reason if the server ended.
    pub fn wait_until_ready(&mut self) -> Result<Ready> {
        let stdout = self.stdout().context("no output")?;
        match wait_until_ready(stdout)? {
            Some(ready) => Ok(ready),
            None if self.ends_within(PATIENCE) => Err(self.ended_early()),
            None => bail!("it closed its output without a ready line"),
        }
    }

    /// Takes its standard output, if it is a pipe and wasn't taken before.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns the id of its first process, which is also its process group id.
    pub fn leader(&self) -> Pid {
        pid(&self.child)
    }

    /// Returns the error for a server that has ended before it was ready.
    pub fn ended_early(&mut self) -> anyhow::Error {
        match self.child.wait() {
            Ok(status) => ended_early(status, &self.errors),
            Err(error) => error.into(),
        }
    }

    /// Waits up to `time` for its end. Returns true if it has ended.
    pub fn ends_within(&self, time: Duration) -> bool {
        ends_within(self.leader(), time)
    }

    /// Returns its exit status if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGTERM and waits for the server's end. Kills it if it doesn't end
    /// in time.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        send(&self.child, Signal::SIGTERM);
        if !self.ends_within(PATIENCE) {
            let _ = signal::killpg(self.leader(), Signal::SIGKILL);
        }
        self.child.wait().context("waiting for the server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::end_group(self.leader());
        let _ = self.child.wait();
    }
}

/// Reads the ready line from a server's output. Returns None if the server has
/// closed its output, which happens only when it ends.
pub fn wait_until_ready(stdout: impl Read + AsFd) -> Result<Option<Ready>> {
    let line = line_in_time(stdout, PATIENCE)?;
    if line.is_empty() { Ok(None) } else { line.parse().map(Some) }
}

/// Returns the reason why a server was never ready: [`Unsupported`], or its
/// exit status and its last line.
pub fn ended_early(status: ExitStatus, errors: &Errors) -> anyhow::Error {
    let line = errors.last_line().unwrap_or("no reason given".to_owned());
    match status.code() {
        Some(code) if code == i32::from(Unsupported::CODE) => {
            Unsupported::Model(line).into()
        }
        _ => anyhow!("{status}: {line}"),
    }
}

/// Waits up to `time` for the end of a child process. Returns true if it has
/// ended, also if it was reaped before.
pub fn ends_within(pid: Pid, time: Duration) -> bool {
    let Ok(end) = process::pidfd(pid) else { return true };
    process::wait_readable(&end, Instant::now() + time).unwrap_or(false)
}

/// Makes the kernel signal the process when this one ends for any reason
/// (PR_SET_PDEATHSIG). Gives it an empty signal mask, only the first three
/// descriptors, and its own process group, so that Ctrl-C reaches it only
/// through this process.
pub fn tie(command: &mut Command, at_our_end: Signal) -> &mut Command {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(at_our_end)?;
        // The parent may have ended before the line above.
        if nix::unistd::getppid() != parent {
            return Err(io::ErrorKind::NotFound.into());
        }
        let on_exec = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
        // SAFETY: the call takes numbers and touches no memory of ours. Before
        // Linux 5.11 it fails, and the server inherits more descriptors.
        unsafe { libc::close_range(3, libc::c_uint::MAX, on_exec) };
        Ok(())
    };
    command.process_group(0);
    // SAFETY: between fork and exec only sigprocmask(2), prctl(2), getppid(2)
    // and close_range(2) are called: they allocate nothing and take no lock.
    unsafe { command.pre_exec(before_exec) }
}

/// Formats the command as a person would type it.
pub fn words(command: &Command) -> String {
    let mut words = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        words.push(' ');
        match argument.to_string_lossy() {
            empty if empty.is_empty() => words.push_str("''"),
            word => words.push_str(&word),
        }
    }
    words
}

/// Strips `error: ` from a model's error message.
pub fn without_prefix(line: &str) -> &str {
    line.strip_prefix("error: ").unwrap_or(line)
}

/// Longer than any ready line, even with two IPv6 addresses.
const LONGEST_LINE: usize = 1024;

/// Reads the first line, from a process that may write nothing, half a line, or
/// a line without a newline. The rest of its output stays in the pipe. An empty
/// line means that the process closed its output.
pub fn line_in_time(
    mut stdout: impl Read + AsFd,
    time: Duration,
) -> Result<String> {
    let deadline = Instant::now() + time;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        ensure!(
            process::wait_readable(&stdout, deadline)?,
            "no ready line within {} s",
            time.as_secs()
        );
        let mut byte = [0];
        if stdout.read(&mut byte).context("reading the ready line")? == 0 {
            break;
        }
        line.push(byte[0]);
        ensure!(
            line.len() < LONGEST_LINE,
            "expected a ready line, got {LONGEST_LINE} bytes without a newline"
        );
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Sends a signal to the process. A process that has ended already is not an
/// error: until we wait for it, its id can't be reused.
pub fn send(child: &Child, signal: Signal) {
    let _ = signal::kill(pid(child), signal);
}

/// Converts the process id to nix's type.
pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn ready_lines_parse() {
        let ready: Ready =
            "ready tcp=127.0.0.1:1 udp=[::1]:2\n".parse().unwrap();
        assert_eq!(ready.tcp, Some(([127, 0, 0, 1], 1).into()));
        assert_eq!(ready.udp, Some("[::1]:2".parse().unwrap()));
        let ready: Ready = "ready udp=127.0.0.1:9\n".parse().unwrap();
        assert_eq!(ready.tcp, None);
    }

    #[test]
    fn kept_error_output_is_bounded() {
        let errors = Errors::new().unwrap();
        assert_eq!(errors.text(), "");
        let script = "echo error: first >&2; yes 2>/dev/null | head -c 3000000 \
                      >&2; :";
        let arguments = ["-c", script].map(str::to_owned);
        let shell = Path::new("/bin/sh");
        let mut command = command(shell, &arguments, &errors).unwrap();
        assert!(command.status().unwrap().success());
        let text = errors.text();
        assert!(text.starts_with("error: first\ny\n"));
        assert!(text.len() as u64 <= ERRORS, "{}", text.len());
        assert!(text.len() as u64 > ERRORS / 2, "{}", text.len());
        assert_eq!(errors.last_line().as_deref(), Some("y"));
    }

    #[test]
    fn other_lines_do_not() {
        for line in [
            "",
            "listening\n",
            "ready\n",
            "ready tcp=here\n",
            "ready tcp=127.0.0.1:1",
            "ready tcp=127.0.0.1:0\n",
            "ready  tcp=127.0.0.1:1\n",
            "ready tcp=127.0.0.1:1 \n",
            "Ready tcp=127.0.0.1:1\n",
            "ready sctp=127.0.0.1:1\n",
            "ready udp=[::1]:2 tcp=127.0.0.1:1\n",
        ] {
            assert!(line.parse::<Ready>().is_err(), "{line:?} parsed");
        }
    }

    #[test]
    fn waiting_for_a_line_is_bounded() {
        let time = Duration::from_millis(50);
        let garbage = [b'x'; LONGEST_LINE];
        let rows: [(&[u8], bool, Result<&str, &str>); 6] = [
            (b"ready\nmore", false, Ok("ready\n")),
            (b"", true, Ok("")),
            (b"rea", true, Ok("rea")),
            (b"\xff\n", false, Ok("\u{fffd}\n")),
            (b"rea", false, Err("no ready line")),
            (&garbage, false, Err("without a newline")),
        ];
        for (output, closes, expected) in rows {
            let (ours, mut theirs) = io::pipe().unwrap();
            theirs.write_all(output).unwrap();
            let _open = (!closes).then_some(theirs);
            match (line_in_time(ours, time), expected) {
                (Ok(line), expected) => assert_eq!(Ok(&*line), expected),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{error}");
                }
                (Err(error), Ok(line)) => panic!("{line:?}: {error}"),
            }
        }
    }
}
