//! Idle timeouts, errors and the end of the loop, the same policy in every
//! model: skip it on a first read.

use std::time::Instant;

use nix::errno::Errno;
use slotmap::DefaultKey;

use common::{Cause, log};

use crate::{READABLE, Server};

impl Server<'_> {
    /// True when the drain is over: no client is left, or its time is up.
    pub fn has_finished(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            self.connections.is_empty() || until <= Instant::now()
        })
    }

    /// Closes connections whose idle timeout has expired, without a reply.
    /// Before that, each is read once more: a request may have arrived in time.
    pub fn close_timed_out(&mut self) {
        while let Some(key) = self.timers.pop_expired(self.now) {
            self.handle_event(key, READABLE);
            if !self.timers.is_running(key) {
                self.close(key);
            }
        }
    }

    /// Logs an error that no client can cause, and closes its connection.
    pub fn fail(&mut self, key: DefaultKey, errno: Errno) {
        log(
            Cause::Conversation,
            format_args!("a conversation failed: {errno}"),
        );
        self.close(key);
    }
}
