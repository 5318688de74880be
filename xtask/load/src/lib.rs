//! The load generator: one thread that asks, and checks every byte of every
//! reply.
//!
//! It takes all replies that are there before it sends the next requests, one
//! call for all that a connection sends. Its own processor time is measured
//! along with the server's: where the generator was the busier of the two, the
//! throughput is the generator's.

pub mod closed;
pub mod connection;
mod conversations;
pub mod datagrams;
mod epoll;
pub mod interrupt;
pub mod open;
pub mod request;
pub mod short;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::request::Request;

/// A server that keeps everybody waiting for this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Replies that one receive takes at most, in bytes.
const CHUNK: usize = 64 * 1024;

/// Requests and their latencies in some time. All that was asked has been
/// answered, but for what `lost` counts.
#[derive(Debug)]
pub struct Measurement {
    pub elapsed: Duration,
    pub requests: u64,
    /// Of each request, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The generator's own processor time.
    pub client: Duration,
    /// Requests that went out more than a millisecond after they were due.
    pub late: u64,
    /// Datagrams without an answer.
    pub lost: u64,
}

impl Measurement {
    /// Adds up two turns.
    pub fn and(mut self, other: &Self) -> Result<Self> {
        self.elapsed += other.elapsed;
        self.requests += other.requests;
        self.latency.add(&other.latency).context("histograms")?;
        self.client += other.client;
        self.late += other.late;
        self.lost += other.lost;
        Ok(self)
    }
}

/// A measurement under way.
#[derive(Debug)]
pub struct Recorder {
    pub began: Instant,
    /// The generator's processor time before it.
    client: Duration,
    pub measurement: Measurement,
}

impl Recorder {
    pub fn start() -> Result<Self> {
        // From a nanosecond to a minute, to three digits.
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .context("a histogram")?;
        let measurement = Measurement {
            elapsed: Duration::ZERO,
            requests: 0,
            latency,
            client: Duration::ZERO,
            late: 0,
            lost: 0,
        };
        let client = processor_time()?;
        Ok(Self { began: Instant::now(), client, measurement })
    }

    /// Records that so many requests were answered after so long.
    pub fn answered(&mut self, requests: usize, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let Measurement { latency, requests: all, .. } = &mut self.measurement;
        latency.saturating_record_n(nanoseconds, requests as u64);
        *all += requests as u64;
    }

    /// Requests that were answered so far.
    pub fn requests(&self) -> u64 {
        self.measurement.requests
    }

    pub fn finish(self) -> Result<Measurement> {
        self.finish_at(Instant::now())
    }

    /// Finishes at a moment that has passed: the time since then was a wait
    /// for replies that did not come.
    pub fn finish_at(self, ended: Instant) -> Result<Measurement> {
        Ok(Measurement {
            elapsed: ended - self.began,
            client: processor_time()?.saturating_sub(self.client),
            ..self.measurement
        })
    }
}

/// Processor time that this thread has used.
fn processor_time() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("CLOCK_THREAD_CPUTIME_ID")?;
    Ok(now.into())
}

/// Quotes both strings from where they part, received and expected.
fn difference(received: &[u8], expected: &[u8]) -> String {
    const SHOWN: usize = 40;
    let pairs = received.iter().zip(expected);
    let same = pairs.take_while(|(a, b)| a == b).count();
    let tail = |bytes: &[u8]| {
        let end = bytes.len().min(same + SHOWN);
        bytes[same..end].escape_ascii().to_string()
    };
    format!("\"{}\" instead of \"{}\"", tail(received), tail(expected))
}

/// Requests of one kind, and the replies that must come back.
#[derive(Debug)]
pub struct Script {
    /// `pipeline` requests.
    pub requests: Vec<u8>,
    /// The length of one request, in bytes.
    pub request: usize,
    /// One reply after the other, longer than a chunk by one reply: wherever
    /// in a reply a chunk begins, it can be compared in one piece.
    replies: Vec<u8>,
    reply: usize,
}

impl Script {
    pub fn new(request: Request, pipeline: usize) -> Self {
        let (once, reply) = (request.bytes(), request.reply());
        let times = CHUNK.div_ceil(reply.len()) + 1;
        Self {
            requests: once.repeat(pipeline),
            request: once.len(),
            replies: reply.repeat(times),
            reply: reply.len(),
        }
    }

    /// The bytes of one reply.
    pub fn reply(&self) -> &[u8] {
        &self.replies[..self.reply]
    }

    /// Finds the bytes to send next, when `unsent` are still to be sent: the
    /// rest of the current request, and whole ones after it. They may be
    /// fewer.
    pub fn rest(&self, unsent: usize) -> Range<usize> {
        let into = (self.request - unsent % self.request) % self.request;
        into..self.requests.len().min(into + unsent)
    }

    /// Compares what came with what should have, given how much of the
    /// current reply was there before; says how many replies are complete and
    /// how much there is of the next.
    pub fn check(&self, at: usize, received: &[u8]) -> Result<(usize, usize)> {
        let expected = &self.replies[at..at + received.len()];
        if received != expected {
            bail!("a wrong reply: {}", difference(received, expected));
        }
        let end = at + received.len();
        Ok((end / self.reply, end % self.reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_compared_wherever_they_are_cut() {
        let script = Script::new(Request::Ping, 2);
        assert_eq!(script.requests.len(), 2 * script.request);
        assert_eq!(script.check(0, b"+PONG\r\n").unwrap(), (1, 0));
        assert_eq!(script.check(0, b"+PO").unwrap(), (0, 3));
        assert_eq!(script.check(3, b"NG\r\n+PONG\r\n+").unwrap(), (2, 1));
        assert_eq!(script.check(6, b"").unwrap(), (0, 6));
        let all = b"+PONG\r\n".repeat(CHUNK / 7);
        assert_eq!(script.check(0, &all).unwrap(), (CHUNK / 7, 0));
        let error = script.check(3, b"NG\r\n-ERR no\r\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a wrong reply: \"-ERR no\\r\\n\" instead of \"+PONG\\r\\n+P\""
        );
    }

    #[test]
    fn requests_are_counted_with_their_latency_turn_by_turn() {
        let turn = |requests, latency, elapsed| {
            let mut recorder = Recorder::start().unwrap();
            recorder.answered(requests, Duration::from_micros(latency));
            let Measurement { late, lost, .. } = &mut recorder.measurement;
            (*late, *lost) = (1, 2);
            let client = Duration::from_millis(elapsed);
            let elapsed = Duration::from_secs(elapsed);
            Measurement { elapsed, client, ..recorder.finish().unwrap() }
        };
        let both = turn(3, 10, 1).and(&turn(1, 2_000, 2)).unwrap();
        assert_eq!((both.requests, both.latency.len()), (4, 4));
        let p50 = both.latency.value_at_quantile(0.5);
        assert!((9_990..=10_010).contains(&p50), "{p50}");
        assert!(both.latency.max() >= 1_990_000);
        assert_eq!((both.late, both.lost), (2, 4));
        assert_eq!(both.elapsed, Duration::from_secs(3));
        assert_eq!(both.client, Duration::from_millis(3));
    }
}
