//! **One process per client, the model alone.** The conversation of `blocking`,
//! in a child that fork(2) makes for each new client.
//!
//! An error ends its client; an error of accept or fork ends the parent, and
//! its children go on. Left out, with the function in `src` that has it:
//! closing in order (`Conversation::end`), idle timeouts
//! (`set_socket_timeout`), limits and a full process table (`serve_client`),
//! children that end with their parent (`become_child`), graceful shutdown
//! (`on_signal`), datagrams.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::Result;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(listener)
}

fn serve(listener: TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    // SAFETY: no handler runs. The kernel reaps children whose parent ignores
    // SIGCHLD, so none becomes a zombie.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    loop {
        let (stream, _) = listener.accept()?;
        // SAFETY: the process has one thread, so the child may do anything.
        if let ForkResult::Child = unsafe { fork() }? {
            drop(listener);
            let mut client = Client::new(stream);
            while client.answer(&about).unwrap_or(false) {}
            // SAFETY: it ends the process. exit(3) would also do what only the
            // parent has to do at its end.
            unsafe { libc::_exit(0) }
        }
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
