//! Connections on which the script is asked again and again.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::epoll::Sockets;
use super::{PATIENCE, Script};

/// Connections, by number, and where in the script each of them is.
#[derive(Debug)]
pub struct Wire<'a> {
    sockets: Sockets<'a>,
    script: &'a Script,
    places: Vec<Place>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// How much of the next reply is there, in bytes.
    at: usize,
    /// Replies on their way.
    awaited: usize,
}

/// Replies that one connection has had.
#[derive(Clone, Copy, Debug)]
pub struct Replies {
    pub number: usize,
    pub count: usize,
    /// How many are still on their way.
    pub awaited: usize,
    /// When they were there.
    pub at: Instant,
}

impl<'a> Wire<'a> {
    pub fn new(streams: &'a [TcpStream], script: &'a Script) -> Result<Self> {
        let sockets = streams.iter().map(AsFd::as_fd).collect();
        let sockets = Sockets::new(sockets, script)?;
        let places = vec![Place::default(); streams.len()];
        Ok(Self { sockets, script, places })
    }

    pub fn send(&mut self, number: usize, requests: usize) -> Result<()> {
        self.places[number].awaited += requests;
        self.sockets.send(number, requests)
    }

    /// True where all replies are there.
    pub fn is_idle(&self, number: usize) -> bool {
        self.places[number].awaited == 0
    }

    /// Waits, checks every byte that came, and tells of whole replies. False
    /// if nothing came in time.
    pub fn wait(
        &mut self,
        patience: Duration,
        mut on_replies: impl FnMut(&Replies),
    ) -> Result<bool> {
        let Self { sockets, script, places } = self;
        sockets.wait(patience, |number, received, at| {
            let place = &mut places[number];
            let (count, rest) = script.check(place.at, received)?;
            ensure!(count <= place.awaited, "more replies than requests");
            place.at = rest;
            place.awaited -= count;
            if count > 0 {
                let awaited = place.awaited;
                on_replies(&Replies { number, count, awaited, at });
            }
            Ok(())
        })
    }

    /// The same where silence is a failure.
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
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};
    use std::thread;

    use super::*;
    use crate::request::Request;

    /// Connections to somebody who does as told with each of them.
    fn connect(
        count: usize,
        serve: impl Fn(TcpStream) + Copy + Send + 'static,
    ) -> Vec<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (0..count)
            .map(|_| {
                let stream = TcpStream::connect(address).unwrap();
                let (served, _) = listener.accept().unwrap();
                thread::spawn(move || serve(served));
                stream
            })
            .collect()
    }

    fn script(request: Request, pipeline: usize) -> Script {
        Script::new(request, pipeline)
    }

    /// Receives that many bytes.
    fn swallow(stream: &mut TcpStream, mut bytes: usize) {
        let mut chunk = vec![0; 1 << 20];
        while bytes > 0 {
            let most = bytes.min(chunk.len());
            match stream.read(&mut chunk[..most]) {
                Ok(0) | Err(_) => return,
                Ok(received) => bytes -= received,
            }
        }
    }

    #[test]
    fn replies_in_pieces_are_put_together() {
        let script = script(Request::Echo(300), 3);
        let connections = 5;
        let streams = connect(connections, |mut stream| {
            let reply = Request::Echo(300).reply();
            stream.set_nodelay(true).unwrap();
            loop {
                let request = Request::Echo(300).bytes().len();
                swallow(&mut stream, 3 * request);
                for piece in reply.repeat(3).chunks(101) {
                    if stream.write_all(piece).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_micros(100));
                }
            }
        });
        let mut wire = Wire::new(&streams, &script).unwrap();
        for _ in 0..3 {
            for number in 0..connections {
                assert!(wire.is_idle(number));
                wire.send(number, 3).unwrap();
            }
            let mut had = vec![0; connections];
            while had != vec![3; connections] {
                wire.wait_for_news(|replies| {
                    had[replies.number] += replies.count;
                    let awaited = 3 - had[replies.number];
                    assert_eq!(replies.awaited, awaited);
                })
                .unwrap();
            }
        }
        let came = wire.wait(Duration::ZERO, |_| {}).unwrap();
        assert!(!came, "more than was asked for");
    }

    /// Far more than a socket takes, sent in several steps to one who reads
    /// late: no byte may be lost, sent twice, or overtake another.
    #[test]
    fn what_a_socket_has_no_room_for_follows_in_order() {
        const SIZE: usize = 16_384;
        const REQUESTS: usize = 900;
        let script = script(Request::Echo(SIZE), 4);
        let streams = connect(2, |mut stream| {
            thread::sleep(Duration::from_millis(50));
            let (request, reply) =
                (Request::Echo(SIZE).bytes(), Request::Echo(SIZE).reply());
            let mut received = vec![0; request.len()];
            for _ in 0..REQUESTS {
                stream.read_exact(&mut received).unwrap();
                assert!(received == request, "requests are mixed up");
                stream.write_all(&reply).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut wire = Wire::new(&streams, &script).unwrap();
        for number in [0, 1] {
            wire.send(number, 7).unwrap();
            wire.send(number, 1).unwrap();
        }
        wire.wait(Duration::ZERO, |_| {}).unwrap();
        for number in [0, 1] {
            wire.send(number, REQUESTS - 8).unwrap();
        }
        let mut had = 0;
        while had < 2 * REQUESTS {
            let news = |replies: &Replies| had += replies.count;
            if let Err(error) = wire.wait_for_news(news) {
                let ended = error.to_string().contains("ended");
                assert!(ended && had >= REQUESTS, "{error:#}");
                break;
            }
        }
    }

    #[test]
    fn an_end_or_a_wrong_byte_is_an_error() {
        fn answer(what: &'static [u8]) -> impl Fn(TcpStream) + Copy + Send {
            move |mut stream| {
                swallow(&mut stream, Request::Ping.bytes().len());
                stream.write_all(what).unwrap();
            }
        }
        let expect = |what: &'static [u8], said: &str| {
            let script = script(Request::Ping, 1);
            let streams = connect(1, answer(what));
            let mut wire = Wire::new(&streams, &script).unwrap();
            wire.send(0, 1).unwrap();
            let error = loop {
                match wire.wait_for_news(|_| {}) {
                    Ok(()) => {}
                    Err(error) => break format!("{error:#}"),
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
    fn a_connection_that_is_reset_is_an_error() {
        let script = script(Request::Ping, 1);
        let streams = connect(1, |_| {});
        let mut wire = Wire::new(&streams, &script).unwrap();
        thread::sleep(Duration::from_millis(20));
        let asked = wire.send(0, 1).and_then(|()| {
            wire.wait_for_news(|_| {})?;
            wire.send(0, 1)?;
            wire.wait_for_news(|_| {})
        });
        let error = format!("{:#}", asked.unwrap_err());
        let known = ["ended", "sending requests", "receiving replies"];
        assert!(known.iter().any(|it| error.contains(it)));
    }

    #[test]
    fn nothing_comes_in_time() {
        let script = script(Request::Ping, 1);
        let streams = connect(1, |stream| {
            thread::sleep(Duration::from_secs(1));
            drop(stream);
        });
        let mut wire = Wire::new(&streams, &script).unwrap();
        wire.send(0, 1).unwrap();
        let began = Instant::now();
        let patience = Duration::from_millis(30);
        assert!(!wire.wait(patience, |_| {}).unwrap());
        let took = began.elapsed();
        assert!(took >= patience && took < 10 * patience);
    }

    /// More than there are buffers and room in a batch, all at once.
    #[test]
    fn many_connections_all_have_their_replies() {
        let script = script(Request::Ping, 1);
        let streams = connect(300, |mut stream| {
            for _ in 0..3 {
                swallow(&mut stream, Request::Ping.bytes().len());
                stream.write_all(&Request::Ping.reply()).unwrap();
            }
            // Until the other side ends.
            swallow(&mut stream, 1);
        });
        let mut wire = Wire::new(&streams, &script).unwrap();
        for _ in 0..3 {
            for number in 0..300 {
                wire.send(number, 1).unwrap();
            }
            // Time for all of them to come.
            wire.wait(Duration::ZERO, |_| {}).unwrap();
            thread::sleep(Duration::from_millis(30));
            let mut rounds = 0;
            while (0..300).any(|number| !wire.is_idle(number)) {
                wire.wait_for_news(|_| {}).unwrap();
                rounds += 1;
                assert!(rounds <= 300);
            }
        }
    }
}
