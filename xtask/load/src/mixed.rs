//! Open loop with two kinds of requests: most cost little, and one in a hundred
//! or so takes time. Latency counts for the others, from the time at which each
//! is due: it shows whom the server lets wait for the expensive one.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use crate::interrupt;
use crate::open::{BEHIND, LATE};
use crate::request::Request;
use crate::{Measurement, PATIENCE, Recorder, difference};

/// The expensive requests among others.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Heavy {
    pub request: Request,
    /// Every request of this number is expensive.
    pub one_in: u64,
}

/// Requests at a fixed rate, on each connection in turn.
#[derive(Debug)]
pub struct Mixed<'a> {
    streams: &'a [TcpStream],
    light: (Vec<u8>, Vec<u8>),
    heavy: (Vec<u8>, Vec<u8>),
    one_in: u64,
    /// Requests per second.
    rate: u32,
    /// The longest wait for replies. Zero if the generator has a processor to
    /// itself, because a thread wakes up later than its timeout.
    wait: PollTimeout,
    /// The unanswered requests of each connection.
    outstanding: Vec<VecDeque<Outstanding>>,
}

#[derive(Debug)]
struct Outstanding {
    due: Instant,
    is_heavy: bool,
    /// Bytes of its reply received so far.
    at: usize,
}

impl<'a> Mixed<'a> {
    pub fn new(
        streams: &'a [TcpStream],
        light: Request,
        heavy: Heavy,
        rate: u32,
        apart: bool,
    ) -> Result<Self> {
        for stream in streams {
            stream.set_nonblocking(true).context("O_NONBLOCK")?;
        }
        let Heavy { request, one_in } = heavy;
        Ok(Self {
            streams,
            light: (light.bytes(), light.reply()),
            heavy: (request.bytes(), request.reply()),
            one_in,
            rate,
            wait: PollTimeout::from(u8::from(!apart)),
            outstanding: streams.iter().map(|_| VecDeque::new()).collect(),
        })
    }

    /// Sends requests for this long, then waits for the last replies. Sends no
    /// more once the server is too far behind.
    ///
    /// # Errors
    ///
    /// A wrong reply, or none within [`PATIENCE`].
    pub fn run(&mut self, span: Duration) -> Result<Measurement> {
        let mut recorder = Recorder::start()?;
        let (began, rate) = (recorder.began, self.rate);
        let mut total = (span.as_secs_f64() * f64::from(rate)) as u64;
        let bound = (BEHIND.as_secs_f64() * f64::from(rate)) as u64;
        let due_at = |request: u64| began + Duration::from_secs(request) / rate;
        let mut sent = 0;
        let mut last_reply = began;
        while recorder.requests() < total {
            let now = Instant::now();
            while sent < total && due_at(sent) <= now {
                let is_late = now - due_at(sent) > LATE;
                recorder.measurement.late += u64::from(is_late);
                self.send(sent, due_at(sent))?;
                sent += 1;
            }
            let before = recorder.requests();
            if sent - before > bound {
                total = sent;
            }
            self.receive(&mut recorder)?;
            if recorder.requests() > before || before == sent {
                last_reply = now;
            }
            ensure!(
                now - last_reply < PATIENCE,
                "no reply for {} s",
                PATIENCE.as_secs()
            );
        }
        recorder.finish()
    }

    /// Sends one request. Unsent bytes would be an error: the load is far below
    /// what a send buffer holds.
    fn send(&mut self, request: u64, due: Instant) -> Result<()> {
        let number = (request % self.streams.len() as u64) as usize;
        let is_heavy = (request + 1).is_multiple_of(self.one_in);
        let (bytes, _) = if is_heavy { &self.heavy } else { &self.light };
        (&self.streams[number]).write_all(bytes).context("sending requests")?;
        let outstanding = Outstanding { due, is_heavy, at: 0 };
        self.outstanding[number].push_back(outstanding);
        Ok(())
    }

    /// Waits for replies, and checks every byte of those that have arrived.
    fn receive(&mut self, recorder: &mut Recorder) -> Result<()> {
        let fds = self.streams.iter();
        let fds = fds.map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<_> = fds.collect();
        interrupt::check()?;
        match poll(&mut fds, self.wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let at = Instant::now();
        let ready = fds.iter().map(|fd| fd.any() != Some(false));
        let ready: Vec<_> = ready.collect();
        for (number, _) in ready.iter().enumerate().filter(|(_, it)| **it) {
            self.receive_from(number, at, recorder)?;
        }
        Ok(())
    }

    fn receive_from(
        &mut self,
        number: usize,
        now: Instant,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        let mut received = match (&self.streams[number]).read(&mut chunk) {
            Ok(0) => anyhow::bail!("the server ended the connection"),
            Ok(length) => &chunk[..length],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(());
            }
            Err(error) => return Err(error).context("receiving replies"),
        };
        let outstanding = &mut self.outstanding[number];
        while !received.is_empty() {
            let first = outstanding.front_mut();
            let first = first.context("more replies than requests")?;
            let kind = if first.is_heavy { &self.heavy } else { &self.light };
            let rest = &kind.1[first.at..];
            let (part, more) =
                received.split_at(rest.len().min(received.len()));
            ensure!(
                rest.starts_with(part),
                "a wrong reply: {}",
                difference(part, rest)
            );
            received = more;
            first.at += part.len();
            if part.len() == rest.len() {
                if first.is_heavy {
                    recorder.measurement.requests += 1;
                } else {
                    recorder.answered(1, now - first.due);
                }
                outstanding.pop_front();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::conversations::tests::connect;

    const HEAVY: Heavy = Heavy { request: Request::Sleep(40), one_in: 10 };

    /// Serves both kinds of requests on each connection, and sleeps where it is
    /// told to. Replies to the light ones with `light`.
    fn serve(mut stream: TcpStream, light: &[u8]) {
        let [ping, sleep] = [Request::Ping.bytes(), HEAVY.request.bytes()];
        let mut received = Vec::new();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            received.push(byte[0]);
            if received == sleep {
                thread::sleep(Duration::from_millis(40));
                stream.write_all(b"+OK\r\n").unwrap();
                received.clear();
            } else if received == ping {
                stream.write_all(light).unwrap();
                received.clear();
            }
        }
    }

    fn run(connections: usize, light: &'static [u8]) -> Result<Measurement> {
        let streams = connect(connections, move |it| serve(it, light));
        let mut mixed = Mixed::new(&streams, Request::Ping, HEAVY, 200, false)?;
        mixed.run(Duration::from_millis(500))
    }

    #[test]
    fn latency_counts_light_requests_and_their_waiting() {
        let measured = run(1, b"+PONG\r\n").unwrap();
        assert_eq!(measured.requests, 100);
        assert_eq!(measured.latency.len(), 90);
        // On one connection, eight requests are due while one sleeps.
        let p90 = Duration::from_nanos(measured.latency.value_at_quantile(0.9));
        assert!(p90 > Duration::from_millis(20), "{p90:?}");
    }

    #[test]
    fn sending_ends_when_the_server_falls_behind() {
        let streams = connect(1, |stream| {
            thread::sleep(Duration::from_secs(1));
            serve(stream, b"+PONG\r\n");
        });
        let heavy = Heavy { one_in: 10_000, ..HEAVY };
        let mut mixed =
            Mixed::new(&streams, Request::Ping, heavy, 500, false).unwrap();
        let sent = mixed.run(Duration::from_secs(2)).unwrap().requests;
        assert!((251..400).contains(&sent), "{sent} sent");
    }

    #[test]
    fn a_wrong_reply_is_an_error() {
        let error = run(2, b"+PONK\r\n").unwrap_err().to_string();
        assert!(error.starts_with("a wrong reply: "), "{error}");
        let error = run(2, b"+PONG\r\n+PONG\r\n").unwrap_err().to_string();
        assert!(error.contains("more replies than requests"), "{error}");
    }
}
