//! Closed loop over UDP: a socket sends again once it has its reply.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::epoll::Sockets;
use super::{Measurement, PATIENCE, Recorder, Script};

/// The time after which an unanswered datagram counts as lost, and another is
/// sent. On loopback, datagrams are lost only when a queue is full.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Sockets that each have one datagram outstanding.
#[derive(Debug)]
pub struct Datagrams<'a> {
    sockets: Sockets<'a, &'a UdpSocket>,
    script: &'a Script,
    /// The time at which the outstanding datagram was sent.
    sent: Vec<Option<Instant>>,
}

/// Makes sockets that are connected to the server.
pub fn senders(server: SocketAddr, count: usize) -> Result<Vec<UdpSocket>> {
    let sockets = (0..count).map(|_| {
        let socket = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
        socket.connect(server).context("connect")?;
        Ok(socket)
    });
    sockets.collect()
}

impl<'a> Datagrams<'a> {
    pub fn new(senders: &'a [UdpSocket], script: &'a Script) -> Result<Self> {
        let mut sockets = Sockets::new(senders.len(), script)?;
        for (number, sender) in senders.iter().enumerate() {
            sockets.put(number, sender)?;
        }
        Ok(Self { sockets, script, sent: vec![None; senders.len()] })
    }

    /// Sends datagrams for this long, then waits for the last replies.
    pub fn run(&mut self, span: Duration) -> Result<Measurement> {
        let mut recorder = Recorder::start()?;
        let end = recorder.began + span;
        let mut due: Vec<usize> = (0..self.sent.len()).collect();
        let mut last_reply = recorder.began;
        let mut look_again = last_reply + LOST_AFTER;
        loop {
            let now = Instant::now();
            if now < end {
                for number in due.drain(..) {
                    self.sent[number] = Some(Instant::now());
                    self.sockets.send(number, 1)?;
                }
            }
            if self.sent.iter().all(Option::is_none) {
                return recorder.finish_at(last_reply);
            }
            let Self { sockets, script, sent } = self;
            sockets.wait(LOST_AFTER, |number, received, at| {
                let (replies, rest) = script.check(0, received)?;
                ensure!((replies, rest) == (1, 0), "a truncated reply");
                // A reply to a datagram that was given up doesn't count.
                if let Some(sent) = sent[number].take() {
                    recorder.answered(1, at - sent);
                    last_reply = at;
                    due.push(number);
                }
                Ok(())
            })?;
            ensure!(
                last_reply.elapsed() < PATIENCE,
                "no reply for {} s",
                PATIENCE.as_secs()
            );
            if Instant::now() >= look_again {
                let lost = self.give_up();
                recorder.measurement.lost += lost.len() as u64;
                due.extend(lost);
                look_again = Instant::now() + LOST_AFTER / 10;
            }
        }
    }

    /// Gives up datagrams that have been outstanding for too long, and returns
    /// the numbers of their sockets.
    fn give_up(&mut self) -> Vec<usize> {
        let mut lost = Vec::new();
        for (number, sent) in self.sent.iter_mut().enumerate() {
            if sent.is_some_and(|sent| sent.elapsed() >= LOST_AFTER) {
                *sent = None;
                lost.push(number);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::request::Request;

    /// Starts a server that answers all datagrams except one.
    fn swallows_one() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut request = [0; 100];
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for number in 0.. {
                let Ok((_, from)) = socket.recv_from(&mut request) else {
                    return;
                };
                if number != 20 {
                    socket.send_to(&Request::Ping.reply(), from).unwrap();
                }
            }
        });
        address
    }

    #[test]
    fn a_lost_datagram_is_counted_and_delays_no_other() {
        let script = Script::new(Request::Ping, 1);
        let senders = senders(swallows_one(), 5).unwrap();
        let mut datagrams = Datagrams::new(&senders, &script).unwrap();
        let span = Duration::from_millis(300);
        let measured = datagrams.run(span).unwrap();
        assert_eq!(measured.lost, 1);
        assert!(measured.requests > 25, "{} requests", measured.requests);
        // The wait for the lost datagram isn't part of the measured time.
        assert!(measured.elapsed < LOST_AFTER, "{:?}", measured.elapsed);
        // The next measurement loses none.
        assert_eq!(datagrams.run(span / 10).unwrap().lost, 0);
    }
}
