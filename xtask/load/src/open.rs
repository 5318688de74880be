//! Open loop: requests are due at fixed times, and latency counts from the time
//! at which a request is due.
//!
//! A closed loop sends nothing while a server is slow. The requests that would
//! have waited are never made, so their latency is never measured. That is
//! called coordinated omission. Here, latency includes all waiting, also that
//! for the generator.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::conversations::{Conversations, Replies};
use super::{Measurement, PATIENCE, Recorder, Script};

/// The delay beyond which a request counts as sent late by the generator.
pub const LATE: Duration = Duration::from_millis(1);

/// The longest queue of unanswered requests, as the time in which they are due.
/// Beyond it the rate counts as too high, and no more requests are sent.
pub const BEHIND: Duration = Duration::from_millis(500);

/// Requests at a fixed rate, on each connection in turn.
#[derive(Debug)]
pub struct Open<'a> {
    conversations: Conversations<'a, &'a TcpStream>,
    /// The due times of each connection's unanswered requests.
    due: Vec<VecDeque<Instant>>,
    /// Requests per second.
    rate: u32,
    /// The longest wait for replies. Zero if the generator has a processor to
    /// itself, because a thread wakes up later than its timeout.
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
            conversations: Conversations::on(streams, script)?,
            due: vec![VecDeque::new(); streams.len()],
            rate,
            wait: Duration::from_millis(u64::from(!apart)),
        })
    }

    /// Sends requests for this long, then waits for the last replies. Sends no
    /// more once the server is too far behind.
    pub fn run(&mut self, span: Duration) -> Result<Measurement> {
        let mut recorder = Recorder::start()?;
        let began = recorder.began;
        let total = (span.as_secs_f64() * f64::from(self.rate)) as u64;
        let bound = (BEHIND.as_secs_f64() * f64::from(self.rate)) as u64;
        let rate = self.rate;
        let due_at = |request: u64| began + Duration::from_secs(request) / rate;
        let mut sent = 0;
        let mut last_reply = began;
        while sent < total || recorder.requests() < sent {
            let now = Instant::now();
            let first = sent;
            while sent < total && due_at(sent) <= now {
                let number = sent as usize % self.due.len();
                self.due[number].push_back(due_at(sent));
                recorder.measurement.late +=
                    u64::from(now - due_at(sent) > LATE);
                sent += 1;
            }
            self.send(first, sent)?;
            if sent - recorder.requests() > bound {
                break;
            }
            let Self { conversations, due, wait, .. } = self;
            let news =
                |replies: &Replies| answered(due, &mut recorder, replies);
            if conversations.wait(*wait, news)? {
                last_reply = now;
            }
            anyhow::ensure!(
                sent == recorder.requests() || now - last_reply < PATIENCE,
                "no reply for {} s",
                PATIENCE.as_secs()
            );
        }
        let Self { conversations, due, .. } = self;
        while recorder.requests() < sent {
            conversations.wait_for_news(|replies| {
                answered(due, &mut recorder, replies);
            })?;
        }
        recorder.finish()
    }

    /// Sends the requests from number `first` to before `end`.
    fn send(&mut self, first: u64, end: u64) -> Result<()> {
        let all = self.due.len() as u64;
        for request in first..end.min(first + all) {
            let number = (request % all) as usize;
            let requests = (end - request).div_ceil(all) as usize;
            self.conversations.send(number, requests)?;
        }
        Ok(())
    }
}

fn answered(
    due: &mut [VecDeque<Instant>],
    recorder: &mut Recorder,
    replies: &Replies,
) {
    for due in due[replies.number].drain(..replies.count) {
        recorder.answered(1, replies.at - due);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use super::super::closed::Closed;
    use super::super::conversations::tests::connect;
    use super::*;
    use crate::request::Request;

    /// Connects to a server that replies at once, except to request number
    /// `slow`, which it delays by `stall`.
    fn stalls_once(slow: usize, stall: Duration) -> Vec<TcpStream> {
        connect(1, move |mut stream| {
            let mut request = Request::Ping.bytes();
            for number in 0.. {
                if stream.read_exact(&mut request).is_err() {
                    return;
                }
                if number == slow {
                    thread::sleep(stall);
                }
                stream.write_all(&Request::Ping.reply()).unwrap();
            }
        })
    }

    /// Returns the 90th percentile of latency, in milliseconds.
    fn p90(measured: &Measurement) -> u128 {
        let nanoseconds = measured.latency.value_at_quantile(0.9);
        Duration::from_nanos(nanoseconds).as_millis()
    }

    #[test]
    fn a_stall_counts_for_all_requests_due_in_it() {
        let script = Script::new(Request::Ping, 1);
        let stall = Duration::from_millis(200);
        let span = 2 * stall;
        let streams = stalls_once(20, stall);
        let mut open = Open::new(&streams, &script, 500, false).unwrap();
        let measured = open.run(span).unwrap();
        assert_eq!(measured.requests, 200);
        // A hundred requests were due during the stall.
        assert!(p90(&measured) > 100, "{} ms", p90(&measured));
        // The closed loop sent none of them.
        let streams = stalls_once(20, stall);
        let mut closed = Closed::new(&streams, &script, 1, 1).unwrap();
        let measured = closed.run(span).unwrap();
        assert!(p90(&measured) < 100, "{} ms", p90(&measured));
    }

    #[test]
    fn sending_ends_when_the_server_falls_behind() {
        let script = Script::new(Request::Ping, 1);
        let streams = stalls_once(0, Duration::from_secs(1));
        let mut open = Open::new(&streams, &script, 500, false).unwrap();
        let sent = open.run(Duration::from_secs(2)).unwrap().requests;
        assert!((251..400).contains(&sent), "{sent} sent");
    }
}
