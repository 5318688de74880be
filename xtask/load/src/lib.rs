//! The load generator: one thread that asks, and checks every byte of every
//! reply.
//!
//! It takes all replies that are there before it sends the next requests, one
//! call for all that a connection sends. What it costs itself is measured
//! along with the server: where it was the busier of the two, the throughput
//! is its own.

pub mod closed;
pub mod connection;
pub mod datagrams;
mod epoll;
pub mod interrupt;
pub mod open;
pub mod request;
pub mod short;
mod wire;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::request::Request;

/// How long a server may keep everybody waiting before that is a failure.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Replies that one receive takes at most, in bytes.
const CHUNK: usize = 64 * 1024;

/// Latencies from a nanosecond to a minute, to three digits.
const LATENCIES: (u64, u64, u8) = (1, 60_000_000_000, 3);

/// What was asked and answered in some time. All that was asked has been
/// answered, but for what `lost` counts.
#[derive(Debug)]
pub struct Taken {
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

impl Taken {
    /// Both together.
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

/// What becomes `Taken`.
#[derive(Debug)]
pub struct Count {
    began: Instant,
    client: Duration,
    requests: u64,
    latency: Histogram<u64>,
    pub late: u64,
    pub lost: u64,
    ended: Option<Instant>,
}

impl Count {
    pub fn start() -> Result<Self> {
        let (low, high, digits) = LATENCIES;
        Ok(Self {
            requests: 0,
            latency: Histogram::new_with_bounds(low, high, digits)
                .context("a histogram")?,
            late: 0,
            lost: 0,
            ended: None,
            client: processor_time()?,
            began: Instant::now(),
        })
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// So many requests were answered after so long.
    pub fn answered(&mut self, requests: usize, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record_n(nanoseconds, requests as u64);
        self.requests += requests as u64;
    }

    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// What comes later is waiting for what will not come.
    pub fn ended(&mut self, at: Instant) {
        self.ended = Some(at);
    }

    pub fn finish(self) -> Result<Taken> {
        let ended = self.ended.unwrap_or_else(Instant::now);
        Ok(Taken {
            elapsed: ended - self.began,
            client: processor_time()?.saturating_sub(self.client),
            requests: self.requests,
            latency: self.latency,
            late: self.late,
            lost: self.lost,
        })
    }
}

/// What this thread has used.
fn processor_time() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("CLOCK_THREAD_CPUTIME_ID")?;
    Ok(now.into())
}

/// Where two strings part, and what the first has there instead of the other.
pub fn difference(received: &[u8], expected: &[u8]) -> (usize, String) {
    const SHOWN: usize = 40;
    let pairs = received.iter().zip(expected);
    let same = pairs.take_while(|(a, b)| a == b).count();
    let tail = |bytes: &[u8]| {
        let end = bytes.len().min(same + SHOWN);
        bytes[same..end].escape_ascii().to_string()
    };
    let (seen, wanted) = (tail(received), tail(expected));
    (same, format!("\"{seen}\" instead of \"{wanted}\""))
}

/// One request again and again, and what comes back.
#[derive(Debug)]
pub struct Script {
    /// `pipeline` requests.
    pub requests: Vec<u8>,
    /// How long one request is, in bytes.
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

    /// Where the requests are that are sent next, when so many bytes are still
    /// to be sent: the rest of the current one, and whole ones after it. They
    /// may be fewer.
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
            bail!("a wrong reply: {}", difference(received, expected).1);
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
    }

    #[test]
    fn what_two_turns_took_adds_up() {
        let turn = |requests, seconds| {
            let mut count = Count::start().unwrap();
            count.answered(requests, Duration::from_micros(10));
            (count.late, count.lost) = (1, 2);
            let mut taken = count.finish().unwrap();
            taken.elapsed = Duration::from_secs(seconds);
            taken.client = Duration::from_millis(seconds);
            taken
        };
        let both = turn(3, 1).and(&turn(4, 2)).unwrap();
        assert_eq!((both.requests, both.latency.len()), (7, 7));
        assert_eq!((both.late, both.lost), (2, 4));
        assert_eq!(both.elapsed, Duration::from_secs(3));
        assert_eq!(both.client, Duration::from_millis(3));
    }

    #[test]
    fn any_other_byte_is_an_error() {
        let script = Script::new(Request::Ping, 1);
        let error = script.check(3, b"NG\r\n-ERR no\r\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a wrong reply: \"-ERR no\\r\\n\" instead of \"+PONG\\r\\n+P\""
        );
        script.check(0, b"NG\r\n").unwrap_err();
    }

    #[test]
    fn requests_are_counted_with_their_latency() {
        let mut count = Count::start().unwrap();
        count.answered(3, Duration::from_micros(10));
        count.answered(1, Duration::from_millis(2));
        let taken = count.finish().unwrap();
        assert_eq!(taken.requests, 4);
        let p50 = taken.latency.value_at_quantile(0.5);
        assert!((9_990..=10_010).contains(&p50), "{p50}");
        assert!(taken.latency.max() >= 1_990_000);
    }
}
