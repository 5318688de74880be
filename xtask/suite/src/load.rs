//! Full load: clients that send requests again as soon as they are answered,
//! all at the same time, until the server closes them or the case is over.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lab::process::poll_until;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::PATIENCE;
use super::bytes::difference;
use super::client::is_reset;

/// The number of requests that a client sends at once: enough to keep the
/// server busy, and few enough that no send is short.
const PIPELINE: usize = 256;

const REPLY: &str = "+PONG\r\n";

/// Milliseconds between two checks whether the case is over.
const CHECK_MS: u8 = 10;

/// The clients, driven by one thread, which checks every byte.
#[derive(Debug)]
pub struct Load {
    clients: usize,
    thread: JoinHandle<Result<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The number of answered batches of requests, over all clients.
    answered: AtomicUsize,
    /// When the server closed the first client.
    first_end: OnceLock<Instant>,
    /// True once the clients are to disconnect.
    over: AtomicBool,
    /// At the end: the number of batches of the client that has the fewest.
    fewest: AtomicUsize,
}

impl Load {
    /// Connects the clients, and returns when the server is at full load: each
    /// client has been answered several times on average.
    pub fn start(server: SocketAddr, clients: usize) -> Result<Self> {
        Self::of(BusyClient::connect_all(server, clients)?)
    }

    /// Like `start`, but each client is answered once before the load begins,
    /// so that none of them still waits to be accepted.
    pub fn start_served(server: SocketAddr, clients: usize) -> Result<Self> {
        let mut busy = BusyClient::connect_all(server, clients)?;
        for client in &mut busy {
            client.ask(b"PING\r\n")?;
        }
        poll_until("all first replies to busy clients", PATIENCE, || {
            for client in &mut busy {
                if client.received < REPLY.len() {
                    ensure!(client.hear(REPLY.as_bytes())?, "closed too early");
                }
            }
            Ok(busy.iter().all(|client| client.received == REPLY.len()))
        })?;
        Self::of(busy)
    }

    fn of(busy: Vec<BusyClient>) -> Result<Self> {
        let clients = busy.len();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || run(busy, &theirs));
        let load = Self { clients, thread, shared };
        poll_until("the server to be at full load", PATIENCE, || {
            Ok(load.rounds() >= 4 || load.thread.is_finished())
        })?;
        Ok(load)
    }

    /// Returns how often each client has been answered so far, on average.
    pub fn rounds(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed) / self.clients
    }

    /// Waits until the server closes the first client, and returns when that
    /// was.
    pub fn first_end(&self) -> Result<Instant> {
        let first = &self.shared.first_end;
        poll_until("the server to close a client", PATIENCE, || {
            Ok(first.get().is_some() || self.thread.is_finished())
        })?;
        first.get().copied().context("the load ended before the server did")
    }

    /// Waits until the server has closed all clients.
    pub fn expect_ends(self) -> Result<()> {
        poll_until("the server to close all clients", PATIENCE, || {
            Ok(self.thread.is_finished())
        })?;
        self.join()
    }

    /// Disconnects the clients; the server must not have closed any of them.
    pub fn leave(self) -> Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        let first_end = self.shared.first_end.get().copied();
        self.join()?;
        ensure!(first_end.is_none(), "the server closed a busy client");
        Ok(())
    }

    /// Lets the load run until each client has been answered `rounds` times on
    /// average, disconnects the clients, and returns how often the one with the
    /// fewest answers was.
    pub fn fewest(self, rounds: usize) -> Result<usize> {
        let end = self.rounds() + rounds;
        poll_until("the server to answer the load", PATIENCE, || {
            Ok(self.rounds() >= end || self.thread.is_finished())
        })?;
        let shared = Arc::clone(&self.shared);
        self.leave()?;
        Ok(shared.fewest.load(Ordering::Relaxed))
    }

    fn join(self) -> Result<()> {
        let result = self.thread.join();
        result.unwrap_or_else(|_| bail!("the load panicked"))
    }
}

/// A client that never stops sending requests.
#[derive(Debug)]
struct BusyClient {
    stream: TcpStream,
    /// The number of bytes received of the replies to its batch.
    received: usize,
    /// The number of answered batches.
    answered: usize,
}

impl BusyClient {
    fn connect_all(server: SocketAddr, clients: usize) -> Result<Vec<Self>> {
        (0..clients).map(|_| Self::connect(server)).collect()
    }

    fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)
            .with_context(|| format!("connecting to {server}"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        stream.set_nonblocking(true).context("O_NONBLOCK")?;
        Ok(Self { stream, received: 0, answered: 0 })
    }

    /// Sends a batch. All earlier ones were answered, so the send buffer has
    /// room. A server that has exited may reset the connection.
    fn ask(&mut self, requests: &[u8]) -> Result<()> {
        self.received = 0;
        match self.stream.write(requests) {
            Ok(sent) => ensure!(sent == requests.len(), "a short send"),
            Err(error) if is_reset(&error) => {}
            Err(error) => return Err(error).context("sending requests"),
        }
        Ok(())
    }

    /// Receives what has arrived of the replies to a batch, and checks it.
    /// Returns false at the end of the connection.
    fn hear(&mut self, replies: &[u8]) -> Result<bool> {
        let expected = &replies[self.received..];
        let mut seen = [0; PIPELINE * REPLY.len()];
        match self.stream.read(&mut seen[..expected.len()]) {
            Ok(0) => {
                let whole = self.received.is_multiple_of(REPLY.len());
                ensure!(whole, "EOF within a reply");
                Ok(false)
            }
            Ok(count) => {
                let (seen, expected) = (&seen[..count], &expected[..count]);
                ensure!(seen == expected, "{}", difference(expected, seen));
                self.received += count;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) if is_reset(&error) => Ok(false),
            Err(error) => Err(error).context("receiving replies"),
        }
    }
}

/// Keeps all clients sending until none is left or the case is over.
fn run(clients: Vec<BusyClient>, shared: &Shared) -> Result<()> {
    let (requests, replies) =
        ("PING\r\n".repeat(PIPELINE), REPLY.repeat(PIPELINE));
    let epoll =
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?;
    let mut events = [EpollEvent::empty(); 256];
    let mut clients: Vec<_> = clients.into_iter().map(Some).collect();
    let mut left = clients.len();
    for (number, client) in (0..).zip(clients.iter_mut().flatten()) {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        epoll.add(&client.stream, event).context("EPOLL_CTL_ADD")?;
        client.ask(requests.as_bytes())?;
    }
    while left > 0 && !shared.over.load(Ordering::Relaxed) {
        let ready = match epoll.wait(&mut events, CHECK_MS) {
            Err(Errno::EINTR) => 0,
            ready => ready.context("epoll_wait")?,
        };
        for event in &events[..ready] {
            let place = &mut clients[event.data() as usize];
            let Some(client) = place else { continue };
            let name = || format!("busy client {}", event.data());
            if !client.hear(replies.as_bytes()).with_context(name)? {
                shared.first_end.get_or_init(Instant::now);
                // Closing the socket removes it from the interest list.
                *place = None;
                left -= 1;
            } else if client.received == replies.len() {
                client.answered += 1;
                shared.answered.fetch_add(1, Ordering::Relaxed);
                client.ask(requests.as_bytes())?;
            }
        }
    }
    let answered = clients.iter().flatten().map(|client| client.answered);
    shared.fewest.store(answered.min().unwrap_or(0), Ordering::Relaxed);
    Ok(())
}
