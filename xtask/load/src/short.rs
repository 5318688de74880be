//! Short connections: connect, send one request, receive its reply, close, and
//! repeat.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::connection::socket;
use super::conversations::Conversations;
use super::{Measurement, Recorder, Script};

/// The number of source addresses. A port stays in use after its connection has
/// ended (TIME_WAIT), so the 28,000 ports of one address would last a second or
/// two.
const SOURCES: u32 = 64;

/// Connections that each carry one request.
#[derive(Debug)]
pub struct Short<'a> {
    server: SocketAddr,
    conversations: Conversations<'a, TcpStream>,
    /// The time at which each connection was begun.
    began: Vec<Instant>,
    /// The number of connections so far.
    made: u32,
    /// The number of connections after which there are no more.
    most: Option<u32>,
}

impl<'a> Short<'a> {
    pub fn new(
        server: SocketAddr,
        script: &'a Script,
        count: usize,
        most: Option<u32>,
    ) -> Result<Self> {
        Ok(Self {
            server,
            conversations: Conversations::new(count, script)?,
            began: vec![Instant::now(); count],
            made: 0,
            most,
        })
    }

    /// Connects and sends for this long, or until there were as many
    /// connections as wanted, then waits for the last replies.
    pub fn run(&mut self, span: Duration) -> Result<Measurement> {
        let mut recorder = Recorder::start()?;
        let end = recorder.began + span;
        let mut due: Vec<usize> = (0..self.began.len()).collect();
        let mut open = 0;
        loop {
            let goes_on = Instant::now() < end;
            for number in due.drain(..) {
                self.conversations.end(number);
                if goes_on && self.most.is_none_or(|most| self.made < most) {
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

    /// Connects and sends a request. On loopback, connect(2) usually returns
    /// with the connection established; otherwise the request is sent later.
    fn connect(&mut self, number: usize) -> Result<()> {
        self.began[number] = Instant::now();
        self.made = self.made.wrapping_add(1);
        let last = (1 + self.made % SOURCES) as u8;
        let socket = socket(Some(Ipv4Addr::new(127, 0, 1, last)))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                bail!(
                    "the generator has no free port on {SOURCES} source \
                     addresses: widen net.ipv4.ip_local_port_range"
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

    /// The server serves one client at a time, and waits for EOF before it
    /// accepts the next.
    #[test]
    fn every_connection_carries_one_request() {
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
        let mut short = Short::new(address, &script, 3, None).unwrap();
        let measured = short.run(Duration::from_millis(50)).unwrap();
        assert!(measured.requests > 3, "{measured:?}");
        let mut five = Short::new(address, &script, 3, Some(5)).unwrap();
        assert_eq!(five.run(Duration::from_secs(60)).unwrap().requests, 5);
        // A client that sends nothing ends the server.
        drop(TcpStream::connect(address).unwrap());
        assert_eq!(server.join().unwrap(), measured.requests + 5);
    }
}
