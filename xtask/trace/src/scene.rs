//! The traced scene: a server starts; a client connects, waits for a known
//! time, sends one request, reads the reply and closes; the server is shut
//! down.

use std::io::Read as _;
use std::io::Write as _;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use anyhow::{Result, anyhow, bail};
use lab::model::Transport;

use super::calls::Family;
use super::event::now;
use super::host::{Host, Tracing};
use super::rest::Watch;
use super::steps::{Step, steps};

/// The request, and the reply that must follow.
pub const REQUEST: &[u8] = b"PING\r\n";
pub const REPLY: &[u8] = b"+PONG\r\n";

/// The time between connecting and sending, in which the client is silent.
const SILENCE: Duration = Duration::from_millis(100);

/// The longest time that a reply may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The times of the client's acts, on the clock of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Just before connect(2); for datagrams, before the socket is made.
    pub connecting: Duration,
    /// Just before the call that sends the request. On loopback that call
    /// delivers it, so the request can be at the server from now on.
    pub sending: Duration,
    /// When the reply had been read.
    pub answered: Duration,
    pub closing: Duration,
    /// When shutdown was requested.
    pub stopping: Duration,
}

/// A recorded scene.
#[derive(Clone, Debug)]
pub struct Recording {
    pub steps: Vec<Step>,
    pub marks: Marks,
}

/// Starts the server under the tracer and plays the scene.
pub fn play(
    program: &Path,
    arguments: &[String],
    transport: Transport,
) -> Result<Recording> {
    play_with(program, arguments, transport, SILENCE)
}

/// Plays the scene with a client that is silent for this long, or until the
/// server rests, which may take longer.
pub fn play_with(
    program: &Path,
    arguments: &[String],
    transport: Transport,
    silence: Duration,
) -> Result<Recording> {
    let socket = (transport, "127.0.0.1:0");
    let host = Host::start(program, arguments, socket, Tracing::Required)?;
    let address = host.address();
    let mut watch = Watch::new(host.tracee().context("it is not traced")?);
    let conversation = watch.rest().and_then(|()| match transport {
        Transport::Tcp => over_tcp(address, silence, &mut watch),
        Transport::Udp => over_udp(address, silence, &mut watch),
    });
    let marks = match conversation {
        Ok(marks) => Marks { stopping: now(), ..marks },
        Err(error) => return Err(host.explain(error)),
    };
    Ok(Recording { steps: steps(&host.stop()?), marks })
}

fn over_tcp(
    address: SocketAddr,
    silence: Duration,
    watch: &mut Watch<'_>,
) -> Result<Marks> {
    let mut marks = Marks { connecting: now(), ..Marks::default() };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .context("cannot connect to the server")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let silence = Instant::now() + silence;
    watch.until("the server to accept", Family::Accept, |fd| fd >= 0)?;
    watch.rest()?;
    thread::sleep(silence.saturating_duration_since(Instant::now()));
    marks.sending = now();
    stream.write_all(REQUEST).context("cannot send the request")?;
    let mut reply = vec![0; REPLY.len()];
    stream.read_exact(&mut reply).map_err(no_reply)?;
    marks.answered = now();
    check(&reply)?;
    watch.rest()?;
    marks.closing = now();
    drop(stream);
    watch
        .until("the server to get EOF", Family::Receive, |count| count == 0)?;
    watch.rest()?;
    Ok(marks)
}

fn over_udp(
    address: SocketAddr,
    silence: Duration,
    watch: &mut Watch<'_>,
) -> Result<Marks> {
    let mut marks = Marks { connecting: now(), ..Marks::default() };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
    socket.connect(address).context("connect")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    thread::sleep(silence);
    watch.rest()?;
    marks.sending = now();
    socket.send(REQUEST).context("cannot send the request")?;
    let mut reply = vec![0; 2 * REPLY.len()];
    let length = socket.recv(&mut reply).map_err(no_reply)?;
    marks.answered = now();
    check(&reply[..length])?;
    watch.rest()?;
    marks.closing = now();
    drop(socket);
    Ok(marks)
}

fn no_reply(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::WouldBlock => {
            anyhow!("no reply within {} s", PATIENCE.as_secs())
        }
        ErrorKind::UnexpectedEof => {
            anyhow!("the server closed the connection instead of replying")
        }
        _ => anyhow::Error::from(error).context("no reply"),
    }
}

fn check(reply: &[u8]) -> Result<()> {
    if reply != REPLY {
        bail!("the reply is \"{}\"", reply.escape_ascii());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use lab::Unsupported;

    use super::*;
    use crate::tape::is_forbidden;

    /// Plays the scene with a shell script as the server, and returns the
    /// error. None if tracing is forbidden.
    fn failure(script: &str) -> Option<anyhow::Error> {
        let arguments = ["-c", script].map(str::to_owned);
        let error =
            play(Path::new("/bin/sh"), &arguments, Transport::Tcp).unwrap_err();
        (!is_forbidden(&error)).then_some(error)
    }

    #[test]
    fn a_server_that_cannot_run_here_is_refused() {
        let script = "echo error: io_uring_setup: EPERM >&2; exit 77";
        if let Some(error) = failure(script) {
            assert!(error.is::<Unsupported>(), "{error:#}");
            let expected = "io_uring_setup: EPERM";
            assert_eq!(format!("{error:#}"), expected);
        }
    }

    #[test]
    fn what_a_server_does_instead_of_serving_is_reported() {
        let rows = [
            ("exit 3", "exit status: 3"),
            ("echo hello; sleep 60", "expected a ready line, got \"hello"),
            ("exec >&-; exit 0", "the server has ended: exit status: 0"),
        ];
        for (script, expected) in rows {
            let Some(error) = failure(script) else { return };
            assert!(!error.is::<Unsupported>(), "{error:#}");
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_server_that_is_killed_gives_a_sentence() {
        // The client can connect, and gets no reply.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = format!("echo ready tcp={address}; sleep 0.2; kill -9 $$");
        let error = failure(&script);
        drop(listener);
        let Some(error) = error else { return };
        let error = format!("{error:#}");
        assert!(error.contains("the server has ended"), "{error}");
        assert!(error.contains("SIGKILL"), "{error}");
    }
}
