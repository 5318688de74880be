//! **Non-blocking I/O, the model alone.** `read` returns at once, with bytes or
//! with EAGAIN. The program tries one socket after another, and never sleeps.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. Left out, with the function in `src` that has it: clients
//! that do not read their replies (`flush`), closing in order
//! (`flush_and_advance`), idle timeouts (`close_timed_out`), limits and a full
//! descriptor table (`accept_pending`), graceful shutdown (`on_signal`),
//! datagrams.

use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::Result;

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    let mut clients: Vec<Client> = Vec::new();
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => clients.push(Client::new(stream)?),
            Err(error) if error.kind() == WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        clients.retain_mut(|it| it.on_readable(&about).unwrap_or(false));
    }
}

/// One client: its socket, and its half of the protocol.
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Client {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let session = Session::new(0, 1024 * 1024);
        Ok(Self { stream, session })
    }

    /// Receives once and answers. Returns false at the end of the conversation.
    fn on_readable(&mut self, about: &About) -> io::Result<bool> {
        let mut input = [0; 4096];
        let received = match self.stream.read(&mut input) {
            Err(error) if error.kind() == WouldBlock => return Ok(true),
            received => received?,
        };
        let mut output = Vec::new();
        self.session.answer(&input[..received], about, &mut output);
        // EAGAIN drops a client that does not read its replies.
        self.stream.write_all(&output)?;
        Ok(received > 0 && self.session.wants_input())
    }
}
