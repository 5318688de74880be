//! Connections on which the script's requests are sent repeatedly.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::epoll::Sockets;
use super::{PATIENCE, Script};

/// Connections by number, and the position of each in the script.
#[derive(Debug)]
pub struct Conversations<'a, S> {
    sockets: Sockets<'a, S>,
    script: &'a Script,
    progress: Vec<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Bytes of the next reply received so far.
    at: usize,
    /// Outstanding replies.
    awaited: usize,
}

/// Replies received on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Replies {
    pub number: usize,
    pub count: usize,
    /// Replies still outstanding.
    pub awaited: usize,
    /// The time at which they were received.
    pub at: Instant,
}

impl<'a> Conversations<'a, &'a TcpStream> {
    /// Uses existing connections.
    pub fn on(streams: &'a [TcpStream], script: &'a Script) -> Result<Self> {
        let mut conversations = Self::new(streams.len(), script)?;
        for (number, stream) in streams.iter().enumerate() {
            conversations.begin(number, stream)?;
        }
        Ok(conversations)
    }
}

impl<'a, S: AsFd> Conversations<'a, S> {
    /// Makes room for `count` connections.
    pub fn new(count: usize, script: &'a Script) -> Result<Self> {
        let sockets = Sockets::new(count, script)?;
        let progress = vec![Progress::default(); count];
        Ok(Self { sockets, script, progress })
    }

    pub fn begin(&mut self, number: usize, stream: S) -> Result<()> {
        self.progress[number] = Progress::default();
        self.sockets.put(number, stream)
    }

    pub fn end(&mut self, number: usize) {
        self.sockets.remove(number);
    }

    pub fn send(&mut self, number: usize, requests: usize) -> Result<()> {
        self.progress[number].awaited += requests;
        self.sockets.send(number, requests)
    }

    /// Returns whether no reply is outstanding.
    pub fn is_idle(&self, number: usize) -> bool {
        self.progress[number].awaited == 0
    }

    /// Waits for data, checks every byte, and calls `on_replies` for complete
    /// replies. Returns false if nothing arrived in time.
    pub fn wait(
        &mut self,
        patience: Duration,
        mut on_replies: impl FnMut(&Replies),
    ) -> Result<bool> {
        let Self { sockets, script, progress } = self;
        sockets.wait(patience, |number, received, at| {
            let progress = &mut progress[number];
            let (count, rest) = script.check(progress.at, received)?;
            ensure!(count <= progress.awaited, "more replies than requests");
            progress.at = rest;
            progress.awaited -= count;
            if count > 0 {
                let awaited = progress.awaited;
                on_replies(&Replies { number, count, awaited, at });
            }
            Ok(())
        })
    }

    /// Waits like [`wait`](Self::wait), but fails if nothing arrives in time.
    pub fn wait_for_news(
        &mut self,
        on_replies: impl FnMut(&Replies),
    ) -> Result<()> {
        let came = self.wait(PATIENCE, on_replies)?;
        ensure!(came, "no reply for {} s", PATIENCE.as_secs());
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};
    use std::thread;

    use super::*;
    use crate::request::Request;

    /// Makes connections, each with a thread that serves its other end.
    pub fn connect(
        count: usize,
        serve: impl Fn(TcpStream) + Copy + Send + 'static,
    ) -> Vec<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams = (0..count).map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            let (served, _) = listener.accept().unwrap();
            served.set_nodelay(true).unwrap();
            thread::spawn(move || serve(served));
            stream
        });
        streams.collect()
    }

    #[test]
    fn replies_in_pieces_are_put_together() {
        const ECHO: Request = Request::Echo(300);
        let connections = 5;
        let streams = connect(connections, |mut stream| {
            let mut requests = ECHO.bytes().repeat(3);
            while stream.read_exact(&mut requests).is_ok() {
                for piece in ECHO.reply().repeat(3).chunks(101) {
                    stream.write_all(piece).unwrap();
                    thread::sleep(Duration::from_micros(100));
                }
            }
        });
        let script = Script::new(ECHO, 3);
        let mut conversations = Conversations::on(&streams, &script).unwrap();
        for _ in 0..3 {
            for number in 0..connections {
                assert!(conversations.is_idle(number));
                conversations.send(number, 3).unwrap();
            }
            let mut had = vec![0; connections];
            while had != vec![3; connections] {
                let news = |replies: &Replies| {
                    had[replies.number] += replies.count;
                    assert_eq!(replies.awaited, 3 - had[replies.number]);
                };
                conversations.wait_for_news(news).unwrap();
            }
        }
        let came = conversations.wait(Duration::ZERO, |_| {}).unwrap();
        assert!(!came, "more replies than requests");
    }

    /// Sends far more than a send buffer holds, in several steps, to a server
    /// that reads late. No byte may be lost, sent twice or out of order.
    #[test]
    fn short_writes_are_continued_in_order() {
        const ECHO: Request = Request::Echo(16_384);
        const REQUESTS: usize = 900;
        let streams = connect(2, |mut stream| {
            thread::sleep(Duration::from_millis(50));
            let (request, reply) = (ECHO.bytes(), ECHO.reply());
            let mut received = vec![0; request.len()];
            for _ in 0..REQUESTS {
                stream.read_exact(&mut received).unwrap();
                assert!(received == request, "requests are mixed up");
                stream.write_all(&reply).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let script = Script::new(ECHO, 4);
        let mut conversations = Conversations::on(&streams, &script).unwrap();
        for number in [0, 1] {
            conversations.send(number, 7).unwrap();
            conversations.send(number, 1).unwrap();
        }
        conversations.wait(Duration::ZERO, |_| {}).unwrap();
        for number in [0, 1] {
            conversations.send(number, REQUESTS - 8).unwrap();
        }
        let mut had = 0;
        while had < 2 * REQUESTS {
            let news = |replies: &Replies| had += replies.count;
            if let Err(error) = conversations.wait_for_news(news) {
                let ended = error.to_string().contains("ended");
                assert!(ended && had >= REQUESTS, "{error:#}");
                break;
            }
        }
    }

    #[test]
    fn an_end_or_a_wrong_byte_is_an_error() {
        let expect = |reply: &'static [u8], said: &str| {
            let streams = connect(1, move |mut stream| {
                stream.read_exact(&mut Request::Ping.bytes()).unwrap();
                stream.write_all(reply).unwrap();
            });
            let script = Script::new(Request::Ping, 1);
            let mut conversations =
                Conversations::on(&streams, &script).unwrap();
            conversations.send(0, 1).unwrap();
            let error = loop {
                if let Err(error) = conversations.wait_for_news(|_| {}) {
                    break format!("{error:#}");
                }
            };
            assert!(error.contains(said), "{error}");
        };
        expect(b"", "the server ended the connection");
        expect(b"+PON", "the server ended the connection");
        expect(b"+PONG\r\n", "the server ended the connection");
        expect(b"+PONK\r\n", "a wrong reply: \"K");
        expect(b"+PONG\r\n+PONG\r\n", "more replies than requests");
    }

    #[test]
    fn a_reset_is_an_error() {
        let streams = connect(1, |mut stream| {
            stream.read_exact(&mut Request::Ping.bytes()).unwrap();
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        });
        let script = Script::new(Request::Ping, 1);
        let mut conversations = Conversations::on(&streams, &script).unwrap();
        conversations.send(0, 1).unwrap();
        let error = conversations.wait_for_news(|_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("ECONNRESET"), "{error:#}");
    }
}
