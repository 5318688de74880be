//! Short connections: connect, one request, its reply, close; again.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::connection::socket;
use super::conversations::Conversations;
use super::{Measurement, Recorder, Script};

/// Source addresses, because a port stays taken for a while after its
/// connection has ended (TIME_WAIT): 28,000 of them would last a second or
/// two.
const SOURCES: u32 = 64;

/// Some connections at a time, each for one request.
#[derive(Debug)]
pub struct Short<'a> {
    server: SocketAddr,
    conversations: Conversations<'a, TcpStream>,
    /// The time at which each of them began to connect.
    began: Vec<Instant>,
    /// Connections so far.
    made: u32,
}

impl<'a> Short<'a> {
    pub fn new(
        server: SocketAddr,
        script: &'a Script,
        count: usize,
    ) -> Result<Self> {
        Ok(Self {
            server,
            conversations: Conversations::new(count, script)?,
            began: vec![Instant::now(); count],
            made: 0,
        })
    }

    /// Connects and asks for this long, then waits for the last replies.
    pub fn run(&mut self, span: Duration) -> Result<Measurement> {
        let mut recorder = Recorder::start()?;
        let end = recorder.began + span;
        let mut due: Vec<usize> = (0..self.began.len()).collect();
        let mut open = 0;
        loop {
            let goes_on = Instant::now() < end;
            for number in due.drain(..) {
                self.conversations.end(number);
                if goes_on {
                    self.connect(number)?;
                    open += 1;
                }
            }
            if open == 0 {
                return recorder.finish();
            }
            let Self { conversations, began, .. } = self;
            conversations.wait_for_news(|replies| {
                let number = replies.number;
                recorder.answered(1, replies.at - began[number]);
                open -= 1;
                due.push(number);
            })?;
        }
    }

    /// Connects and sends a request. On loopback connect(2) mostly returns
    /// when the connection is there; otherwise the request follows then.
    fn connect(&mut self, number: usize) -> Result<()> {
        self.began[number] = Instant::now();
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
        self.conversations.begin(number, socket.into())?;
        self.conversations.send(number, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::request::Request;

    /// A server with one client at a time: it waits for the end of one before
    /// it hears of the next.
    #[test]
    fn every_connection_asks_once_and_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut request = Request::Ping.bytes();
            let mut served = 0;
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                if stream.read_exact(&mut request).is_err() {
                    return served;
                }
                stream.write_all(&Request::Ping.reply()).unwrap();
                assert_eq!(stream.read(&mut request).unwrap(), 0);
                served += 1;
            }
        });
        let script = Script::new(Request::Ping, 1);
        let mut short = Short::new(address, &script, 3).unwrap();
        let measured = short.run(Duration::from_millis(50)).unwrap();
        assert!(measured.requests > 3, "{measured:?}");
        // One that says nothing ends the server.
        drop(TcpStream::connect(address).unwrap());
        assert_eq!(server.join().unwrap(), measured.requests);
    }
}
