//! Graceful shutdown, the same policy in every model: skip it on a first read.
//! The signals are among those that the loop waits for.

use anyhow::{Result, bail};
use slotmap::DefaultKey;

use super::PosixAio;

impl PosixAio<'_> {
    /// The first signal starts the drain: no connection is accepted any more,
    /// what has arrived is answered, and each conversation ends. A second
    /// signal ends the server at once, as a failure.
    pub fn begin_drain(&mut self) -> Result<()> {
        if self.server.drain_until.is_some() {
            bail!("stopped by a second signal");
        }
        let drain_timeout = self.server.config.drain_timeout;
        self.server.drain_until = Some(self.server.now + drain_timeout);
        self.listener = None;
        let keys: Vec<_> = self.clients.keys().collect();
        for key in keys {
            self.drain_client(key);
        }
        Ok(())
    }

    /// Begins the drain of a connection, but not before the completion of input
    /// that a thread has already received.
    pub fn drain_client(&mut self, key: DefaultKey) {
        let connection = &mut self.server.connections[key];
        let client = &self.clients[key];
        if client.is_over {
            return;
        }
        if !connection.is_draining() {
            match client.operation.is_receiving(&connection.stream) {
                Ok(true) => return,
                Ok(false) => {}
                Err(errno) => return self.fail(key, errno),
            }
            if let Err(errno) = connection.begin_drain() {
                return self.fail(key, errno);
            }
        }
        self.apply_outcome(key);
    }

    /// During the drain, closes the connections whose replies are all
    /// acknowledged.
    pub fn close_acknowledged(&mut self) {
        for key in self.server.acknowledged() {
            self.hang_up(key);
        }
    }
}
