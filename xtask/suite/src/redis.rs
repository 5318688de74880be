//! A live Redis, as the reference for replies.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::process;
use lab::server::{Errors, Server, tie};
use nix::sys::signal::Signal;

use super::PATIENCE;
use super::bytes::show;
use super::client::outstanding;

/// The version whose reply texts the models use.
const VERSION: &str = "7.0.";

/// A redis-server started by the suite, which listens on a Unix socket.
#[derive(Debug)]
pub struct Redis {
    _server: Server,
    /// The socket, kept open because its name has been removed.
    socket: File,
}

impl Redis {
    /// Starts it. The error says why there is no Redis to compare with.
    pub fn start() -> Result<Self, String> {
        let program = process::which("redis-server")
            .ok_or("redis-server is not on the PATH".to_owned())?;
        let version = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| format!("redis-server --version: {error}"))?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let number =
            version.split_whitespace().find_map(|word| word.strip_prefix("v="));
        let number = number.unwrap_or("of an unknown version");
        if !number.starts_with(VERSION) {
            return Err(format!("redis-server is {number}, not {VERSION}x"));
        }
        Self::launch(&program)
            .map_err(|error| format!("redis-server does not start: {error:#}"))
    }

    /// Starts it in a folder that is removed as soon as its socket exists, so
    /// that nothing is left behind, however the suite ends.
    fn launch(program: &Path) -> Result<Self> {
        let name = format!("unix-io-models-judge-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).context("creating a folder")?;
        let redis = Self::launch_in(&folder, program);
        fs::remove_dir_all(&folder).context("removing the folder")?;
        redis
    }

    fn launch_in(folder: &Path, program: &Path) -> Result<Self> {
        let socket = folder.join("socket");
        let mut command = Command::new(program);
        // Its limit on one argument is then the models' limit on a request.
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--proto-max-bulk-len", "1048576", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        tie(&mut command, Signal::SIGKILL);
        let server = Server::spawn(command, Errors::new()?)?;
        process::poll_until("redis-server's socket", PATIENCE, || {
            Ok(UnixStream::connect(&socket).is_ok())
        })?;
        let path = libc::O_PATH;
        let socket = File::options().read(true).custom_flags(path).open(socket);
        let socket = socket.context("opening redis-server's socket")?;
        Ok(Self { _server: server, socket })
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        let socket = format!("/proc/self/fd/{}", self.socket.as_raw_fd());
        UnixStream::connect(socket)
    }

    /// Returns all that Redis replies to a client that sends a short stream in
    /// one piece and half-closes.
    pub fn answer(&self, stream: &[u8]) -> Result<Vec<u8>> {
        ensure!(stream.len() < 16_384, "the stream exceeds one read");
        self.answer_pieces(&[stream])
            .with_context(|| format!("asking Redis {}", show(stream)))
    }

    /// Sends a stream in pieces, each after Redis has read the one before.
    /// Returns all that Redis replies, which can depend on the pieces.
    pub fn answer_pieces(&self, pieces: &[&[u8]]) -> Result<Vec<u8>> {
        let mut connection = self.connect().context("connecting to Redis")?;
        for piece in pieces {
            process::poll_until("Redis to read", PATIENCE, || {
                Ok(outstanding(&connection)? == 0)
            })?;
            match connection.write_all(piece) {
                // Redis has closed the connection; its replies are queued.
                Err(error) if is_closed(&error) => break,
                result => result?,
            }
        }
        match connection.shutdown(Shutdown::Write) {
            Err(error) if is_closed(&error) => {}
            result => result?,
        }
        let mut replies = Vec::new();
        match connection.read_to_end(&mut replies) {
            // After a protocol error, Redis closes with input unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            result => drop(result?),
        }
        Ok(replies)
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}
