//! **epoll(7), level-triggered, the model alone.** The kernel keeps the list of
//! sockets (epoll_ctl), and one call (epoll_wait) sleeps until some of them are
//! ready; then the program copies. Data left unread is reported again.
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
use std::os::fd::{AsFd, AsRawFd as _, RawFd};

use anyhow::Result;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    watch(&epoll, listener)?;
    loop {
        for fd in wait(&epoll)? {
            let Some(client) = clients.get_mut(&fd) else {
                let (stream, _) = listener.accept()?;
                watch(&epoll, &stream)?;
                clients.insert(stream.as_raw_fd(), Client::new(stream)?);
                continue;
            };
            if !client.on_readable(&about).unwrap_or(false) {
                clients.remove(&fd);
            }
        }
    }
}

/// Adds a socket to the interest list, once: the kernel keeps the list.
fn watch(epoll: &Epoll, socket: impl AsFd) -> nix::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, fd as u64))
}

/// Sleeps until sockets are ready, and returns their descriptors.
fn wait(epoll: &Epoll) -> nix::Result<Vec<RawFd>> {
    let mut events = [EpollEvent::empty(); 64];
    let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
    Ok(events[..ready].iter().map(|event| event.data() as RawFd).collect())
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
