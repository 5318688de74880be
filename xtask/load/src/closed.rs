//! Closed loop: a connection that has all its replies sends again.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::conversations::Conversations;
use super::{Measurement, Recorder, Script};

/// A closed loop over some connections.
#[derive(Debug)]
pub struct Closed<'a> {
    conversations: Conversations<'a, &'a TcpStream>,
    /// The time at which each connection's last requests went out.
    sent: Vec<Instant>,
    /// Requests that a connection sends at once.
    pipeline: usize,
    /// Connections that have requests on their way at a time.
    busy: usize,
    /// The next connection to look at, where not all are busy.
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

    /// Asks for this long, then waits for the last replies.
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

    /// Finds the connection that sends after this one had its replies: itself,
    /// or the next in turn that has nothing on its way.
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
