//! **One event loop per core, the model alone.** Each thread has a listener of
//! its own at the same address (SO_REUSEPORT), an epoll instance (mio) and its
//! clients; the threads share nothing. Readiness is edge-triggered.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. Left out, with the function in `src` that has it: a second
//! server at the same address (`sockets::reuseport_group`), clients that do not
//! read their replies (`flush`), closing in order (`flush_and_advance`),
//! fairness (`read_policy`), idle timeouts (`close_timed_out`), limits
//! (`Shared::acquire`) and a full descriptor table (`accept_pending`), a core
//! for each thread (`Cores::pin`), graceful shutdown (`begin_drain`),
//! datagrams.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::process::exit;
use std::thread;

use anyhow::Result;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use common::{About, Session, announce};

fn main() -> Result<()> {
    let first = listen(common::minimal::address()?)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..thread::available_parallelism()?.get() {
        listeners.push(listen(address)?);
    }
    announce(Some(address), None)?;
    for listener in listeners {
        thread::Builder::new().spawn(|| {
            let Err(error) = serve(listener);
            eprintln!("Error: {error:#}");
            exit(1)
        })?;
    }
    loop {
        thread::park();
    }
}

fn serve(mut listener: TcpListener) -> Result<Infallible> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let own = Token(listener.as_raw_fd() as usize);
    poll.registry().register(&mut listener, own, Interest::READABLE)?;
    loop {
        poll.poll(&mut events, None)?;
        for token in events.iter().map(|event| event.token()) {
            if token == own {
                accept_all(&listener, &poll, &mut clients)?;
            } else if let Some(client) = clients.get_mut(&token)
                && !client.read_all(&about).unwrap_or(false)
            {
                clients.remove(&token);
            }
        }
    }
}

/// Listens at an address beside others: each socket with SO_REUSEPORT has an
/// accept queue of its own, and the kernel spreads the connections.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Accepts until no connection is left, because mio is edge-triggered.
fn accept_all(
    listener: &TcpListener,
    poll: &Poll,
    clients: &mut HashMap<Token, Client>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let token = Token(stream.as_raw_fd() as usize);
        poll.registry().register(&mut stream, token, Interest::READABLE)?;
        clients.insert(token, Client::new(stream));
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
