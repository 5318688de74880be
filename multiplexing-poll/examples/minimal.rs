//! **poll(2), the model alone.** One call sleeps until one of many sockets is
//! ready. The program names them in an array, which the kernel reads at each
//! call; then it copies from those that are ready.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. Left out, with the function in `src` that has it: clients
//! that do not read their replies (`flush`), closing in order
//! (`flush_and_advance`), idle timeouts (`close_timed_out`), limits and a full
//! descriptor table (`accept_pending`), graceful shutdown (`on_signal`),
//! datagrams.

use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    listener.set_nonblocking(true)?;
    loop {
        for fd in wait(listener, &clients)? {
            let Some(client) = clients.get_mut(&fd) else {
                let (stream, _) = listener.accept()?;
                clients.insert(stream.as_raw_fd(), Client::new(stream)?);
                continue;
            };
            if !client.on_readable(&about).unwrap_or(false) {
                clients.remove(&fd);
            }
        }
    }
}

/// Sleeps until sockets are ready, and returns their descriptors. The array is
/// read by the kernel at each wait; its answer goes into fields of its own.
fn wait(
    listener: &TcpListener,
    clients: &HashMap<RawFd, Client>,
) -> nix::Result<Vec<RawFd>> {
    let mut polled = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    for client in clients.values() {
        polled.push(PollFd::new(client.stream.as_fd(), PollFlags::POLLIN));
    }
    poll(&mut polled, PollTimeout::NONE)?;
    polled.retain(|entry| entry.any() != Some(false));
    Ok(polled.iter().map(|entry| entry.as_fd().as_raw_fd()).collect())
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
