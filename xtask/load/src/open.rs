//! Open loop: requests are due at fixed times, and latency counts from then.
//!
//! A closed loop stops asking while a server is slow, so that the requests
//! which would have waited are never made, nor their latency seen. That is
//! called coordinated omission. Here, a request that has to wait for anything,
//! the generator included, has waited.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::wire::{Replies, Wire};
use super::{Count, PATIENCE, Script, Taken};

/// When a request is sent too late to be the server's fault.
const LATE: Duration = Duration::from_millis(1);

/// How long the queue of unanswered requests may get before the rate counts
/// as too high and no more are made, in seconds' worth of requests.
const BEHIND: Duration = Duration::from_millis(500);

/// Requests at a fixed rate, spread over connections in turn.
#[derive(Debug)]
pub struct Open<'a> {
    wire: Wire<'a>,
    /// When the unanswered requests of each connection were due.
    due: Vec<VecDeque<Instant>>,
    /// Requests a second.
    rate: u32,
    /// How long to wait for replies: not at all where the generator has a
    /// processor to itself, because a wait takes longer than it should.
    wait: Duration,
}

impl<'a> Open<'a> {
    pub fn new(
        streams: &'a [TcpStream],
        script: &'a Script,
        rate: u32,
        apart: bool,
    ) -> Result<Self> {
        Ok(Self {
            wire: Wire::new(streams, script)?,
            due: vec![VecDeque::new(); streams.len()],
            rate,
            wait: Duration::from_millis(u64::from(!apart)),
        })
    }

    /// Asks for so long, then waits for the last replies. Asks no more once
    /// the server is too far behind.
    pub fn run(&mut self, span: Duration) -> Result<Taken> {
        let mut count = Count::start()?;
        let began = count.began();
        let total = (span.as_secs_f64() * f64::from(self.rate)) as u64;
        let bound = (BEHIND.as_secs_f64() * f64::from(self.rate)) as u64;
        let rate = self.rate;
        let due_at = |request: u64| began + Duration::from_secs(request) / rate;
        let mut sent = 0;
        let mut last_reply = began;
        while sent < total || count.requests() < sent {
            let now = Instant::now();
            let first = sent;
            while sent < total && due_at(sent) <= now {
                let number = sent as usize % self.due.len();
                self.due[number].push_back(due_at(sent));
                count.late += u64::from(now - due_at(sent) > LATE);
                sent += 1;
            }
            self.send(first, sent)?;
            if sent - count.requests() > bound {
                break;
            }
            let Self { wire, due, wait, .. } = self;
            let news = |replies: &Replies| answered(due, &mut count, replies);
            if wire.wait(*wait, news)? {
                last_reply = now;
            }
            anyhow::ensure!(
                sent == count.requests() || now - last_reply < PATIENCE,
                "no reply for {} s",
                PATIENCE.as_secs()
            );
        }
        let Self { wire, due, .. } = self;
        while count.requests() < sent {
            wire.wait_for_news(|replies| answered(due, &mut count, replies))?;
        }
        count.finish()
    }

    /// Sends the requests from number `first` to before `end`.
    fn send(&mut self, first: u64, end: u64) -> Result<()> {
        let all = self.due.len() as u64;
        for request in first..end.min(first + all) {
            let number = (request % all) as usize;
            let requests = (end - request).div_ceil(all) as usize;
            self.wire.send(number, requests)?;
        }
        Ok(())
    }
}

fn answered(
    due: &mut [VecDeque<Instant>],
    count: &mut Count,
    replies: &Replies,
) {
    for due in due[replies.number].drain(..replies.count) {
        count.answered(1, replies.at - due);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::super::closed::Closed;
    use super::*;
    use crate::request::Request;

    const STALL: Duration = Duration::from_millis(200);

    /// A connection to somebody who answers at once, but for one stall.
    fn stalls_once() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let (mut served, _) = listener.accept().unwrap();
        served.set_nodelay(true).unwrap();
        thread::spawn(move || {
            let mut request = Request::Ping.bytes();
            for number in 0.. {
                if served.read_exact(&mut request).is_err() {
                    return;
                }
                if number == 20 {
                    thread::sleep(STALL);
                }
                served.write_all(&Request::Ping.reply()).unwrap();
            }
        });
        stream.unwrap()
    }

    /// Milliseconds that nine requests in ten took at most.
    fn p90(taken: &Taken) -> u128 {
        let nanoseconds = taken.latency.value_at_quantile(0.9);
        Duration::from_nanos(nanoseconds).as_millis()
    }

    #[test]
    fn a_stall_counts_for_all_who_would_have_waited() {
        let script = Script::new(Request::Ping, 1);
        let span = 2 * STALL;
        let streams = [stalls_once()];
        let mut open = Open::new(&streams, &script, 500, false).unwrap();
        let taken = open.run(span).unwrap();
        assert_eq!(taken.requests, 200);
        // A hundred were due during the stall.
        assert!(p90(&taken) > 100, "{} ms", p90(&taken));
        // The closed loop asked for none of them.
        let streams = [stalls_once()];
        let mut closed = Closed::new(&streams, &script, 1, 1).unwrap();
        let taken = closed.run(span).unwrap();
        assert!(p90(&taken) < 100, "{} ms", p90(&taken));
    }

    #[test]
    fn a_server_that_falls_behind_is_asked_no_more() {
        let script = Script::new(Request::Ping, 1);
        let span = Duration::from_secs(2);
        let streams = [silent_at_first()];
        let mut open = Open::new(&streams, &script, 500, false).unwrap();
        let sent = open.run(span).unwrap().requests;
        assert!((251..400).contains(&sent), "{sent} sent");
    }

    /// A connection to somebody who begins to answer after a second.
    fn silent_at_first() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let (mut served, _) = listener.accept().unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            let mut request = Request::Ping.bytes();
            while served.read_exact(&mut request).is_ok() {
                served.write_all(&Request::Ping.reply()).unwrap();
            }
        });
        stream.unwrap()
    }
}
