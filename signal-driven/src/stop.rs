//! Stopping a program that takes its signals from a queue: two more of them.

use anyhow::{Result, bail};

use crate::{READABLE, Server};

impl Server<'_> {
    /// The first signal stops: no newcomers, what was received is answered,
    /// every conversation comes to its end. A second one is a failure.
    pub fn on_signal(&mut self) -> Result<()> {
        if self.drain_until.is_some() {
            bail!("stopped by a second signal");
        }
        self.drain_until = Some(self.now + self.config.drain_timeout);
        self.listener = None;
        self.newcomers = false;
        if let Some(mut datagrams) = self.datagrams.take() {
            datagrams.answer_queued(&mut self.about);
        }
        let keys: Vec<_> = self.connections.keys().collect();
        for key in keys {
            match self.connections[key].stop() {
                Ok(()) => self.visit(key, READABLE),
                Err(errno) => self.fail(key, errno),
            }
        }
        Ok(())
    }

    /// While stopping: closes those that have all their replies.
    pub fn close_delivered(&mut self) {
        if self.drain_until.is_none() {
            return;
        }
        let delivered: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_delivered())
            .map(|(key, _)| key)
            .collect();
        for key in delivered {
            self.close(key);
        }
    }
}
