//! **One thread per client, the model alone.** The conversation of `blocking`,
//! in a thread that starts for each new client.
//!
//! An error ends its client; an error of accept or of starting a thread ends
//! the program. Left out, with the function in `src` that has it: closing in
//! order (`Conversation::end`), idle timeouts (`set_socket_timeout`), limits
//! and a full descriptor table (`serve`), small stacks (`thread::create`),
//! graceful shutdown (`Registry::drain`), datagrams.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    loop {
        let (stream, _) = listener.accept()?;
        let about = about.clone();
        thread::Builder::new().spawn(move || {
            let mut client = Client::new(stream);
            while client.answer(&about).unwrap_or(false) {}
        })?;
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
