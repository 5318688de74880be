//! Short connections: connect, one request, its reply, close; again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::epoll::EpollFlags;

use super::connection::socket;
use super::epoll::Interests;
use super::{CHUNK, Count, PATIENCE, Script, Taken};

/// Source addresses, because a port stays taken for a while after its
/// connection has ended (TIME_WAIT): 28,000 of them would last a second or
/// two.
const SOURCES: u32 = 64;

/// Some connections at a time, each for one request.
#[derive(Debug)]
pub struct Short<'a> {
    server: SocketAddr,
    script: &'a Script,
    /// How many there have been.
    made: u32,
    interests: Interests,
    /// Those at a time.
    visits: Vec<Option<Visit>>,
}

/// One connection.
#[derive(Debug)]
struct Visit {
    stream: TcpStream,
    began: Instant,
    /// Still to be sent, in bytes.
    unsent: usize,
    /// How much of the reply is there.
    at: usize,
}

impl<'a> Short<'a> {
    pub fn new(
        server: SocketAddr,
        script: &'a Script,
        places: usize,
    ) -> Result<Self> {
        let interests = Interests::new()?;
        let mut visits = Vec::new();
        visits.resize_with(places, || None);
        Ok(Self { server, script, made: 0, interests, visits })
    }

    /// Connects and asks for so long, then waits for the last replies.
    pub fn run(&mut self, span: Duration) -> Result<Taken> {
        let mut count = Count::start()?;
        let end = count.began() + span;
        for place in 0..self.visits.len() {
            self.begin(place)?;
        }
        let mut open = self.visits.len();
        let mut chunk = vec![0; CHUNK];
        while open > 0 {
            let goes_on = Instant::now() < end;
            let events = self.interests.wait(PATIENCE)?;
            ensure!(events > 0, "no reply for {} s", PATIENCE.as_secs());
            for event in 0..events {
                let place = self.interests.news(event);
                if !self.on_event(place, &mut chunk)? {
                    continue;
                }
                // Closes it.
                let visit = self.visits[place].take();
                let Some(Visit { began, .. }) = visit else { continue };
                count.answered(1, began.elapsed());
                open -= 1;
                if goes_on {
                    self.begin(place)?;
                    open += 1;
                }
            }
        }
        count.finish()
    }

    /// Begins to connect. On loopback the connection mostly is there already
    /// when that returns, and the request can go.
    fn begin(&mut self, place: usize) -> Result<()> {
        let began = Instant::now();
        self.made = self.made.wrapping_add(1);
        let last = (1 + self.made % SOURCES) as u8;
        let socket = socket(Some(Ipv4Addr::new(127, 0, 1, last)))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                bail!(
                    "the generator has no port left on {SOURCES} addresses \
                     (net.ipv4.ip_local_port_range)"
                );
            }
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            result => result.context("connect")?,
        }
        let stream = TcpStream::from(socket);
        let unsent = self.script.request;
        let mut visit = Visit { stream, began, unsent, at: 0 };
        visit.flush(self.script)?;
        let mut interest = EpollFlags::EPOLLIN;
        interest.set(EpollFlags::EPOLLOUT, visit.unsent > 0);
        self.interests.add(&visit.stream, place, interest)?;
        self.visits[place] = Some(visit);
        Ok(())
    }

    /// True if the reply is complete.
    fn on_event(&mut self, place: usize, chunk: &mut [u8]) -> Result<bool> {
        let Some(visit) = &mut self.visits[place] else { return Ok(false) };
        if visit.unsent > 0 {
            if let Some(error) = visit.stream.take_error()? {
                if error.kind() == ErrorKind::ConnectionRefused {
                    bail!("connect: nobody listens any more");
                }
                return Err(error).context("connect");
            }
            visit.flush(self.script)?;
            if visit.unsent == 0 {
                let input = EpollFlags::EPOLLIN;
                self.interests.change(&visit.stream, place, input)?;
            }
        }
        let received = match visit.stream.read(chunk) {
            Ok(0) => bail!("the server ended the connection"),
            Ok(received) => received,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => 0,
                _ => return Err(error).context("receiving replies"),
            },
        };
        let (replies, at) = self.script.check(visit.at, &chunk[..received])?;
        ensure!((replies, at) <= (1, 0), "more replies than requests");
        visit.at = at;
        Ok(replies == 1)
    }
}

impl Visit {
    /// Sends what the socket has room for.
    fn flush(&mut self, script: &Script) -> Result<()> {
        while self.unsent > 0 {
            match self.stream.write(&script.requests[script.rest(self.unsent)])
            {
                Ok(sent) => self.unsent -= sent,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    ErrorKind::Interrupted => {}
                    _ => return Err(error).context("sending requests"),
                },
            }
        }
        Ok(())
    }
}
