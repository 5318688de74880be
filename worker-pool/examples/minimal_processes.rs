//! **A pool of processes, the model alone.** The parent forks a fixed number of
//! processes before it serves; they accept from one listener. Each has the
//! conversation of `blocking`, with one client at a time.
//!
//! An error ends its client; an error of accept or fork, and the death of a
//! process, end the program. Left out, with the function in `src` that has it:
//! closing in order (`Conversation::end`), idle timeouts
//! (`set_socket_timeout`), limits (`Clients::acquire`), lack of descriptors or
//! memory at accept (`Pool::pause`), replacing processes (`replace_workers`), a
//! lock around accept (`AcceptLock::acquire`), graceful shutdown
//! (`Parent::on_signal`), datagrams.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::{Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::wait;
use nix::unistd::{ForkResult, fork};

use common::{About, Session};

/// The number of clients served at a time. The next one waits in the accept
/// queue.
const WORKERS: usize = 4;

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    for _ in 0..WORKERS {
        // SAFETY: the process has one thread, so the child may do anything.
        if let ForkResult::Child = unsafe { fork() }? {
            // When the parent ends, the kernel kills the child.
            set_pdeathsig(Signal::SIGKILL)?;
            return work(listener);
        }
    }
    // Waits for ever, unless a worker ends.
    bail!("a worker has ended: {:?}", wait()?)
}

/// Serves one client after the other.
fn work(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    loop {
        // Waits, with the other workers, until a client has connected.
        let (stream, _) = listener.accept()?;
        let mut client = Client::new(stream);
        while client.answer(&about).unwrap_or(false) {}
    }
}

/// One client: its socket, and its half of the protocol.
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        let session = Session::new(0, 1024 * 1024);
        Self { stream, session }
    }

    /// Receives once and answers. Returns false at the end of the conversation.
    fn answer(&mut self, about: &About) -> io::Result<bool> {
        let mut input = [0; 4096];
        // Waits until bytes have arrived, and copies them.
        let received = self.stream.read(&mut input)?;
        let mut output = Vec::new();
        self.session.answer(&input[..received], about, &mut output);
        self.stream.write_all(&output)?;
        Ok(received > 0 && self.session.wants_input())
    }
}
