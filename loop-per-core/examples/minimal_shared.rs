//! **One event loop per core and one listener, the model alone.** Each thread
//! has an epoll instance (mio) and its clients. All of them wait for new
//! connections on the same listener, and EPOLLEXCLUSIVE lets each connection
//! wake one thread that waits. The listener is level-triggered, the clients are
//! edge-triggered.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. Left out, with the function in `src` that has it: clients
//! that do not read their replies (`flush`), closing in order
//! (`flush_and_advance`), fairness (`read_policy`), idle timeouts
//! (`close_timed_out`), limits (`Shared::acquire`) and a full descriptor table
//! (`accept_pending`), a core for each thread (`Cores::pin`), graceful shutdown
//! (`begin_drain`), datagrams.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::exit;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::libc;

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    listener.set_nonblocking(true)?;
    let listener = Arc::new(TcpListener::from_std(listener));
    for _ in 0..thread::available_parallelism()?.get() {
        let listener = Arc::clone(&listener);
        thread::Builder::new().spawn(move || {
            let Err(error) = serve(&listener);
            eprintln!("Error: {error:#}");
            exit(1)
        })?;
    }
    loop {
        thread::park();
    }
}

fn serve(listener: &TcpListener) -> Result<Infallible> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let shared = Token(listener.as_raw_fd() as usize);
    add_exclusive(&poll, listener, shared)?;
    loop {
        poll.poll(&mut events, None)?;
        for token in events.iter().map(|event| event.token()) {
            if token == shared {
                accept_one(listener, &poll, &mut clients)?;
            } else if let Some(client) = clients.get_mut(&token)
                && !client.read_all(&about).unwrap_or(false)
            {
                clients.remove(&token);
            }
        }
    }
}

/// Adds a listener that other epoll instances wait for too. mio has no
/// EPOLLEXCLUSIVE. Its token is the event's data.
fn add_exclusive(
    poll: &Poll,
    listener: &TcpListener,
    Token(token): Token,
) -> Result<()> {
    let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
    let mut event = libc::epoll_event { events, u64: token as u64 };
    let (epoll, add) = (poll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: both descriptors are open, and `event` outlives the call.
    let result = unsafe {
        libc::epoll_ctl(epoll, add, listener.as_raw_fd(), &raw mut event)
    };
    Errno::result(result)?;
    Ok(())
}

/// Accepts one connection. If others are left, the listener is reported again.
fn accept_one(
    listener: &TcpListener,
    poll: &Poll,
    clients: &mut HashMap<Token, Client>,
) -> io::Result<()> {
    let mut stream = match listener.accept() {
        Ok((stream, _)) => stream,
        // Another thread was faster.
        Err(error) if error.kind() == WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let token = Token(stream.as_raw_fd() as usize);
    poll.registry().register(&mut stream, token, Interest::READABLE)?;
    clients.insert(token, Client::new(stream));
    Ok(())
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
