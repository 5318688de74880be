//! **One acceptor and several loops, the model alone.** One thread accepts, and
//! hands the clients in turn to the loops: each is a thread with an epoll
//! instance (mio) and its clients. A client goes through a queue, and an
//! eventfd wakes the loop. Readiness is edge-triggered.
//!
//! An error ends its client; an error of accept or of a wait (also EINTR) ends
//! the program. Left out, with the function in `src` that has it: a queue that
//! is full (`loop_with_room`), one wake-up for several clients (`Queue::push`),
//! clients that do not read their replies (`flush`), closing in order
//! (`flush_and_advance`), fairness (`read_policy`), idle timeouts
//! (`close_timed_out`), limits (`allows_another`) and a full descriptor table
//! (`accept_pending`), a core for each thread (`Cores::pin`), graceful shutdown
//! (`begin_drain`), datagrams.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::exit;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context as _, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use common::{About, Session, announce};

/// The token of the listener, and of a loop's eventfd. Clients have the numbers
/// of their descriptors, which are larger, because standard input is open.
const NEW_CLIENTS: Token = Token(0);

fn main() -> Result<()> {
    let mut listener = TcpListener::bind(common::minimal::address()?)?;
    let count = thread::available_parallelism()?.get();
    let loops: Vec<_> = (0..count).map(|_| start()).collect::<Result<_>>()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    poll.registry().register(&mut listener, NEW_CLIENTS, Interest::READABLE)?;
    announce(Some(listener.local_addr()?), None)?;
    let mut in_turn = loops.iter().cycle();
    loop {
        poll.poll(&mut events, None)?;
        accept_all(&listener, &mut in_turn)?;
    }
}

fn serve(
    mut poll: Poll,
    new_clients: Receiver<TcpStream>,
) -> Result<Infallible> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    let mut events = Events::with_capacity(64);
    loop {
        poll.poll(&mut events, None)?;
        for token in events.iter().map(|event| event.token()) {
            if token == NEW_CLIENTS {
                // A registration looks at the socket, so input that has
                // arrived by then is reported, too.
                for mut stream in new_clients.try_iter() {
                    let own = Token(stream.as_raw_fd() as usize);
                    let registry = poll.registry();
                    registry.register(&mut stream, own, Interest::READABLE)?;
                    clients.insert(own, Client::new(stream));
                }
            } else if let Some(client) = clients.get_mut(&token)
                && !client.read_all(&about).unwrap_or(false)
            {
                clients.remove(&token);
            }
        }
    }
}

/// The acceptor's end of a loop: a queue, and what wakes the loop.
struct Loop {
    queue: Sender<TcpStream>,
    waker: Waker,
}

/// Starts a loop on a thread of its own.
fn start() -> Result<Loop> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), NEW_CLIENTS)?;
    let (queue, new_clients) = channel();
    thread::Builder::new().spawn(|| {
        let Err(error) = serve(poll, new_clients);
        eprintln!("Error: {error:#}");
        exit(1)
    })?;
    Ok(Loop { queue, waker })
}

/// Accepts until no connection is left, because mio is edge-triggered, and
/// hands each to the next loop.
fn accept_all<'a>(
    listener: &TcpListener,
    in_turn: &mut impl Iterator<Item = &'a Loop>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Loop { queue, waker } = in_turn.next().context("no loop")?;
        queue.send(stream)?;
        waker.wake()?;
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
