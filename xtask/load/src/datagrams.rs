//! Closed loop over UDP: a sender that has its reply sends again.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::epoll::Sockets;
use super::{Measurement, PATIENCE, Recorder, Script};

/// A datagram that is not answered within this is lost, and sent again. On
/// loopback that happens only where a queue is full.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Some sockets, each with one datagram on its way.
#[derive(Debug)]
pub struct Datagrams<'a> {
    sockets: Sockets<'a, &'a UdpSocket>,
    script: &'a Script,
    /// The time at which the datagram on its way was sent.
    sent: Vec<Option<Instant>>,
}

/// Sockets that talk to nobody else.
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

    /// Asks for this long, then waits for the last replies.
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
                ensure!((replies, rest) == (1, 0), "a reply that is cut short");
                // The answer to one that was given up is nobody's.
                if let Some(sent) = sent[number].take() {
                    recorder.answered(1, at - sent);
                    last_reply = at;
                    due.push(number);
                }
                Ok(())
            })?;
            ensure!(last_reply.elapsed() < PATIENCE, "no datagram is answered");
            if Instant::now() >= look_again {
                let lost = self.give_up();
                recorder.measurement.lost += lost.len() as u64;
                due.extend(lost);
                look_again = Instant::now() + LOST_AFTER / 10;
            }
        }
    }

    /// Gives up datagrams that have been on their way for too long; returns the
    /// numbers of their sockets.
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

    /// Starts a server that answers all datagrams but one.
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
    fn a_lost_datagram_is_counted_and_keeps_nobody_else() {
        let script = Script::new(Request::Ping, 1);
        let senders = senders(swallows_one(), 5).unwrap();
        let mut datagrams = Datagrams::new(&senders, &script).unwrap();
        let span = Duration::from_millis(300);
        let measured = datagrams.run(span).unwrap();
        assert_eq!(measured.lost, 1);
        assert!(measured.requests > 25, "{} requests", measured.requests);
        // The wait for the lost one is none of the others' time.
        assert!(measured.elapsed < LOST_AFTER, "{:?}", measured.elapsed);
        // The next time, nobody is missing.
        assert_eq!(datagrams.run(span / 10).unwrap().lost, 0);
    }
}
