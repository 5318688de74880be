//! Closed loop: a connection sends again once it has all its replies.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::conversations::Conversations;
use super::{Measurement, Recorder, Script};

/// A closed loop over some connections.
#[derive(Debug)]
pub struct Closed<'a> {
    conversations: Conversations<'a, &'a TcpStream>,
    /// The time at which each connection's last requests were sent.
    sent: Vec<Instant>,
    /// Requests that a connection sends at once.
    pipeline: usize,
    /// Connections with outstanding requests at any time.
    busy: usize,
    /// The next connection to use, if not all are busy.
    turn: usize,
}

impl<'a> Closed<'a> {
    pub fn new(
        streams: &'a [TcpStream],
        script: &'a Script,
        pipeline: usize,
        busy: usize,
    ) -> Result<Self> {
        let busy = busy.min(streams.len());
        Ok(Self {
            conversations: Conversations::on(streams, script)?,
            sent: vec![Instant::now(); streams.len()],
            pipeline,
            busy,
            turn: busy,
        })
    }

    /// Sends requests for this long, then waits for the last replies.
    pub fn run(&mut self, span: Duration) -> Result<Measurement> {
        let mut recorder = Recorder::start()?;
        let end = recorder.began + span;
        let mut due: Vec<usize> = (0..self.busy).collect();
        let mut busy = 0;
        loop {
            if Instant::now() < end {
                for number in due.drain(..) {
                    let number = self.next(number);
                    self.sent[number] = Instant::now();
                    self.conversations.send(number, self.pipeline)?;
                    busy += 1;
                }
            }
            if busy == 0 {
                return recorder.finish();
            }
            let Self { conversations, sent, .. } = self;
            conversations.wait_for_news(|replies| {
                let number = replies.number;
                recorder.answered(replies.count, replies.at - sent[number]);
                if replies.awaited == 0 {
                    busy -= 1;
                    due.push(number);
                }
            })?;
        }
    }

    /// Returns the connection that sends once this one has its replies: this
    /// one, or the next in turn without outstanding requests.
    fn next(&mut self, number: usize) -> usize {
        if self.busy == self.sent.len() {
            return number;
        }
        loop {
            let turn = self.turn;
            self.turn = (turn + 1) % self.sent.len();
            if self.conversations.is_idle(turn) {
                return turn;
            }
        }
    }
}
