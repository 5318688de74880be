//! Closed loop: who has all replies sends again.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::wire::Wire;
use super::{Count, Script, Taken};

/// A closed loop over some connections.
#[derive(Debug)]
pub struct Closed<'a> {
    wire: Wire<'a>,
    /// When each connection's last requests went out.
    sent: Vec<Instant>,
    /// Requests that a connection sends at once.
    pipeline: usize,
    /// Connections that have requests on their way at a time.
    busy: usize,
    /// Whose turn it is next, where not all are busy.
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
            wire: Wire::new(streams, script)?,
            sent: vec![Instant::now(); streams.len()],
            pipeline,
            busy,
            turn: busy,
        })
    }

    /// Asks for so long, then waits for the last replies.
    pub fn run(&mut self, span: Duration) -> Result<Taken> {
        let mut count = Count::start()?;
        let end = count.began() + span;
        let mut due: Vec<usize> = (0..self.busy).collect();
        let mut busy = 0;
        loop {
            if Instant::now() < end {
                for number in due.drain(..) {
                    let number = self.next(number);
                    self.sent[number] = Instant::now();
                    self.wire.send(number, self.pipeline)?;
                    busy += 1;
                }
            }
            if busy == 0 {
                return count.finish();
            }
            let Self { wire, sent, .. } = self;
            wire.wait_for_news(|replies| {
                let number = replies.number;
                count.answered(replies.count, replies.at - sent[number]);
                if replies.awaited == 0 {
                    busy -= 1;
                    due.push(number);
                }
            })?;
        }
    }

    /// Who sends after this one had its replies: the same again, or the next
    /// in turn that has nothing on its way.
    fn next(&mut self, number: usize) -> usize {
        if self.busy == self.sent.len() {
            return number;
        }
        loop {
            let turn = self.turn;
            self.turn = (turn + 1) % self.sent.len();
            if self.wire.is_idle(turn) {
                return turn;
            }
        }
    }
}
