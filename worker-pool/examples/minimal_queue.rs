//! **A pool of workers and a queue, the model alone.** One thread accepts and
//! puts each client into a bounded queue. A fixed number of threads take them
//! from there, each with the conversation of `blocking`, one client at a time.
//!
//! An error ends its client; an error of accept or of starting a thread ends
//! the program. Left out, with the function in `src` that has it: closing in
//! order (`Conversation::end`), idle timeouts (`set_socket_timeout`), limits
//! (`Place::take`), lack of descriptors or memory at accept (`Pool::pause`),
//! small stacks (`worker::start`), graceful shutdown (`Registry::drain`),
//! datagrams.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Result, anyhow};

use common::{About, Session};

/// The number of clients served at a time. The next ones wait in the queue, and
/// when that is full in the accept queue.
const WORKERS: usize = 4;
const LENGTH: usize = 2;

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let (queue, clients) = sync_channel(LENGTH);
    let clients = Arc::new(Mutex::new(clients));
    for _ in 0..WORKERS {
        let clients = Arc::clone(&clients);
        thread::Builder::new().spawn(move || work(&clients))?;
    }
    // If all workers end, send fails.
    drop(clients);
    loop {
        let (stream, _) = listener.accept()?;
        // Waits while the queue is full.
        queue.send(stream).map_err(|_| anyhow!("all workers have ended"))?;
    }
}

/// Serves one client after the other.
fn work(clients: &Mutex<Receiver<TcpStream>>) -> Option<()> {
    let about = About::new("minimal", "");
    loop {
        // One idle worker waits for a client, the others for the lock.
        let stream = clients.lock().ok()?.recv().ok()?;
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
