//! **A pool of workers, the model alone.** A fixed number of threads accept
//! from one listener. Each has the conversation of `blocking`, with one client
//! at a time.
//!
//! An error ends its client; an error of accept or of starting a thread ends
//! the program. Left out, with the function in `src` that has it: closing in
//! order (`Conversation::end`), idle timeouts (`set_socket_timeout`), limits
//! (`Place::take`), lack of descriptors or memory at accept (`Pool::pause`),
//! small stacks (`worker::start`), graceful shutdown (`Registry::drain`),
//! datagrams.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use anyhow::Result;

use common::{About, Session};

/// The number of clients served at a time. The next one waits in the accept
/// queue.
const WORKERS: usize = 4;

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(listener)
}

fn serve(listener: TcpListener) -> Result<()> {
    let listener = Arc::new(listener);
    let (ends, ended) = channel();
    for _ in 0..WORKERS {
        let (listener, ends) = (Arc::clone(&listener), ends.clone());
        thread::Builder::new().spawn(move || ends.send(work(&listener)))?;
    }
    // A worker ends only with an error, which ends the program.
    ended.recv()?
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
