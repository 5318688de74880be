//! Measures how long copying takes. The tracer's stops take longer than the
//! copying of a short request, so this program measures it untraced, with a
//! call and a buffer like the server's.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::values::length;

/// Enough bytes for a duration that can be drawn.
const MUCH: usize = 1 << 20;

/// The number of bytes that are sent before any is received.
const PART: usize = 64 * 1024;

/// The number of measurements of each copy; the median counts.
const ROUNDS: usize = 201;

/// The time to copy from a socket, untraced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copying {
    pub bytes: usize,
    /// The time to copy `bytes` bytes.
    pub request: Duration,
    /// The time to copy 1 MiB, which takes many calls with a server's buffer.
    pub mebibyte: Duration,
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, request, mebibyte, .. } = self;
        let (request, mebibyte) = (length(*request), length(*mebibyte));
        write!(
            f,
            "{bytes} bytes, {request}; 1 MiB, in parts, {mebibyte} (on a \
             stream, untraced)"
        )
    }
}

/// Measures on a loopback stream, with a receive buffer of `buffer` bytes.
pub fn measure(bytes: usize, buffer: usize) -> Result<Copying> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept().context("accept")?;
    sender.set_nodelay(true)?;
    let mut measure = |count: usize| -> Result<Duration> {
        sender.write_all(&vec![b'x'; count])?;
        let mut buffer = vec![0; buffer];
        let mut left = count;
        let start = Instant::now();
        while left > 0 {
            left -= receiver.read(&mut buffer).context("recv")?.min(left);
        }
        Ok(start.elapsed())
    };
    let mut median = |count: usize| -> Result<Duration> {
        let mut rounds =
            (0..ROUNDS).map(|_| measure(count)).collect::<Result<Vec<_>>>()?;
        rounds.sort_unstable();
        Ok(rounds[ROUNDS / 2])
    };
    let request = median(bytes)?;
    let mebibyte = median(PART)? * (MUCH / PART) as u32;
    Ok(Copying { bytes, request, mebibyte })
}
