//! The load generator: one thread that sends requests, and checks every byte of
//! every reply.
//!
//! It receives all replies that have arrived before it sends the next requests,
//! with one call for all requests of a connection. Its own CPU time is measured
//! along with the server's: if the generator was the busier of the two, it
//! limited the throughput.

pub mod closed;
pub mod connection;
mod conversations;
pub mod datagrams;
mod epoll;
pub mod interrupt;
pub mod mixed;
pub mod open;
pub mod request;
pub mod short;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::request::Request;

/// The time without any reply after which a server has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes that one recv(2) returns.
const CHUNK: usize = 64 * 1024;

/// Requests and their latencies. All requests have been answered, except those
/// that `lost` counts.
#[derive(Debug)]
pub struct Measurement {
    pub elapsed: Duration,
    pub requests: u64,
    /// Latency of each request, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The generator's own CPU time.
    pub client: Duration,
    /// Requests sent more than a millisecond after they were due.
    pub late: u64,
    /// Unanswered datagrams.
    pub lost: u64,
}

impl Measurement {
    /// Adds up two measurements.
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

/// A measurement in progress.
#[derive(Debug)]
pub struct Recorder {
    pub began: Instant,
    /// The generator's CPU time at the beginning.
    client: Duration,
    pub measurement: Measurement,
}

impl Recorder {
    pub fn start() -> Result<Self> {
        // From a nanosecond to a minute, with three significant digits.
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

    /// Records `requests` requests, each answered after `took`.
    pub fn answered(&mut self, requests: usize, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let Measurement { latency, requests: all, .. } = &mut self.measurement;
        latency.saturating_record_n(nanoseconds, requests as u64);
        *all += requests as u64;
    }

    /// Returns the number of requests answered so far.
    pub fn requests(&self) -> u64 {
        self.measurement.requests
    }

    pub fn finish(self) -> Result<Measurement> {
        self.finish_at(Instant::now())
    }

    /// Finishes with an earlier end, because the time since then was spent
    /// waiting for replies that didn't arrive.
    pub fn finish_at(self, ended: Instant) -> Result<Measurement> {
        Ok(Measurement {
            elapsed: ended - self.began,
            client: processor_time()?.saturating_sub(self.client),
            ..self.measurement
        })
    }
}

/// Returns the CPU time that this thread has used.
fn processor_time() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("CLOCK_THREAD_CPUTIME_ID")?;
    Ok(now.into())
}

/// Quotes the received and the expected bytes from the first difference.
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

/// Requests of one kind, and their expected replies.
#[derive(Debug)]
pub struct Script {
    /// `pipeline` requests.
    pub requests: Vec<u8>,
    /// The length of one request, in bytes.
    pub request: usize,
    /// Repeated replies, longer than a chunk by one reply, so that a chunk can
    /// be compared in one piece wherever in a reply it begins.
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

    /// Returns the bytes of one reply.
    pub fn reply(&self) -> &[u8] {
        &self.replies[..self.reply]
    }

    /// Returns the bytes to send next when `unsent` are pending: the rest of
    /// the current request, and whole requests after it. They may be fewer than
    /// `unsent`.
    pub fn rest(&self, unsent: usize) -> Range<usize> {
        let into = (self.request - unsent % self.request) % self.request;
        into..self.requests.len().min(into + unsent)
    }

    /// Compares received with expected bytes, where `at` bytes of the current
    /// reply were received before. Returns the number of complete replies, and
    /// of bytes of the next reply.
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
