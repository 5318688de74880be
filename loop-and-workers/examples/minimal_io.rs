//! **A pool of workers in one epoll instance, the model alone.** All workers
//! wait in epoll_wait of the same instance. An event wakes one of them, which
//! receives, answers, and sends. EPOLLONESHOT keeps a client with one worker at
//! a time: a report disarms its socket, and the worker re-arms it.
//!
//! An error ends its client; an error of accept, of a wait (also EINTR) or of
//! starting a thread ends the program. Left out, with the function in `src`
//! that has it: clients that do not read their replies (`flush`), closing in
//! order (`flush_and_advance`), idle timeouts (`close_timed_out`), limits and a
//! full descriptor table (`accept_pending`), graceful shutdown (`supervise`),
//! datagrams.

use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, RawFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use common::{About, Session};

/// The number of requests that are processed at a time.
const WORKERS: usize = 2;

/// Reports a socket once, until it is re-armed.
const ONCE: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLONESHOT);

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(listener)
}

fn serve(listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    watch(&epoll, &listener)?;
    let clients = Mutex::default();
    let shared = Arc::new(Shared { listener, epoll, clients });
    let (ends, ended) = channel();
    for _ in 0..WORKERS {
        let (shared, ends) = (Arc::clone(&shared), ends.clone());
        thread::Builder::new().spawn(move || ends.send(shared.work()))?;
    }
    // No worker ends without an error, which ends the program.
    ended.recv()?
}

/// The state that the workers share. A client is in the map while no worker has
/// it.
struct Shared {
    listener: TcpListener,
    epoll: Epoll,
    clients: Mutex<HashMap<RawFd, Client>>,
}

impl Shared {
    /// Handles one event after the other.
    fn work(&self) -> Result<()> {
        let about = About::new("minimal", "");
        loop {
            let fd = wait(&self.epoll)?;
            if fd == self.listener.as_raw_fd() {
                let (stream, _) = self.listener.accept()?;
                let client = Client::new(stream)?;
                let fd = client.stream.as_raw_fd();
                self.with_clients(|clients| {
                    watch(&self.epoll, &client.stream)?;
                    clients.insert(fd, client);
                    rearm(&self.epoll, &self.listener)
                })?;
                continue;
            }
            let client = self.with_clients(|clients| clients.remove(&fd));
            let Some(mut client) = client else { continue };
            if client.on_readable(&about).unwrap_or(false) {
                // Under the lock, so that the worker of the next event finds
                // the client.
                self.with_clients(|clients| {
                    rearm(&self.epoll, &client.stream)?;
                    clients.insert(fd, client);
                    nix::Result::Ok(())
                })?;
            }
        }
    }

    fn with_clients<T>(
        &self,
        act: impl FnOnce(&mut HashMap<RawFd, Client>) -> T,
    ) -> T {
        act(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds a socket to the interest list.
fn watch(epoll: &Epoll, socket: impl AsFd) -> nix::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    epoll.add(socket, EpollEvent::new(ONCE, fd as u64))
}

/// Makes epoll report the socket once more, at once if something has arrived
/// meanwhile.
fn rearm(epoll: &Epoll, socket: impl AsFd) -> nix::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    epoll.modify(socket, &mut EpollEvent::new(ONCE, fd as u64))
}

/// Sleeps until a socket is ready, and returns its descriptor. The kernel
/// removes one event, so other workers get the others.
fn wait(epoll: &Epoll) -> nix::Result<RawFd> {
    let mut events = [EpollEvent::empty()];
    epoll.wait(&mut events, EpollTimeout::NONE)?;
    Ok(events[0].data() as RawFd)
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
