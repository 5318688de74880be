//! **Signal-driven I/O, the model alone: the queue.** The kernel queues a
//! real-time signal for each event of a socket, and the program takes one after
//! another. A signal reports new data once, so the program reads until EAGAIN.
//! `minimal_datagrams.rs` shows the other way: a handler that interrupts.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. Left out, with the function in `src` that has it: clients
//! that do not read their replies (`flush`), closing in order
//! (`flush_and_advance`), fairness (`READ_POLICY`), idle timeouts
//! (`close_timed_out`), limits and a full descriptor table (`accept_pending`),
//! graceful shutdown (`on_signal`), a queue that is full (`on_overflow`).

use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, RawFd};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::unistd::getpid;

use common::{About, Session};

/// fcntl(2): chooses the signal that the kernel sends for a descriptor.
const F_SETSIG: i32 = 10;

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    // The signals are blocked, so no handler runs; they are read from a
    // descriptor. nix can't name SIGRTMIN, so all but the standard signals.
    let mut mask = SigSet::all();
    Signal::iterator().for_each(|signal| mask.remove(signal));
    mask.add(Signal::SIGIO);
    mask.thread_block()?;
    let signals = SignalFd::new(&mask)?;
    watch(listener)?;
    // A connection or data that arrived before `watch` raised no signal, so
    // accept and read are tried once without one.
    let mut fd = listener.as_raw_fd();
    loop {
        if fd == listener.as_raw_fd() {
            while let Some(mut client) = accept(listener)? {
                if client.read_all(&about).unwrap_or(false) {
                    clients.insert(client.stream.as_raw_fd(), client);
                }
            }
        } else if let Some(client) = clients.get_mut(&fd)
            && !client.read_all(&about).unwrap_or(false)
        {
            clients.remove(&fd);
        }
        fd = wait(&signals)?;
    }
}

/// Has the kernel queue a signal for each event of a socket.
fn watch(socket: impl AsFd) -> nix::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    for (command, value) in [
        (F_SETSIG, libc::SIGRTMIN()),
        (libc::F_SETOWN, getpid().as_raw()),
        (libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC),
    ] {
        // SAFETY: each of these commands takes a number.
        Errno::result(unsafe { libc::fcntl(fd, command, value) })?;
    }
    Ok(())
}

/// Sleeps until a signal is queued, and returns the descriptor that it names.
/// SIGIO comes instead when the queue is full, and ends the program.
fn wait(signals: &SignalFd) -> Result<RawFd> {
    let signal = signals.read_signal()?.context("no signal")?;
    let number = signal.ssi_signo as i32;
    ensure!(number == libc::SIGRTMIN(), "a full queue (signal {number})");
    Ok(signal.ssi_fd)
}

fn accept(listener: &TcpListener) -> Result<Option<Client>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(Client::new(stream)?)),
        Err(error) if error.kind() == WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One client: its socket, and its half of the protocol.
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Client {
    fn new(stream: TcpStream) -> io::Result<Self> {
        watch(&stream)?;
        let session = Session::new(0, 1024 * 1024);
        Ok(Self { stream, session })
    }

    /// Receives and answers until the socket is drained, because what is left
    /// is not reported again. Returns false at the end of the conversation.
    fn read_all(&mut self, about: &About) -> io::Result<bool> {
        let mut input = [0; 4096];
        while self.session.wants_input() {
            let received = match self.stream.read(&mut input) {
                Err(error) if error.kind() == WouldBlock => return Ok(true),
                Ok(0) => break,
                received => received?,
            };
            let mut output = Vec::new();
            self.session.answer(&input[..received], about, &mut output);
            // EAGAIN drops a client that does not read its replies.
            self.stream.write_all(&output)?;
        }
        Ok(false)
    }
}
