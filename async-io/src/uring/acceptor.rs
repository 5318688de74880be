//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use super::operation::Operation;
use super::ring::Completion;
use super::{InFlight, Uring};
use crate::accept::{is_connection_error, is_resource_error};

impl Uring<'_> {
    /// Arms the accept, unless it is in flight or accepting is paused.
    pub fn rearm_accept(&mut self) {
        let server = &mut self.server;
        let stopping = server.drain_until.is_some();
        if stopping || server.paused_until.is_some_and(|it| it > server.now) {
            return;
        }
        server.paused_until = None;
        if let (Some(listener), None) = (&self.listener, self.accepting) {
            let operation = if self.is_short {
                Operation::AcceptOne
            } else {
                Operation::AcceptAll
            };
            let listener = listener.as_raw_fd();
            self.accepting = Some(self.operations.start(operation, listener));
        }
    }

    /// Handles the completion of an accept: a new client, or an error.
    pub fn on_accepted(&mut self, completion: &Completion) -> Result<()> {
        if self.operations.take_if_last(completion).is_some() {
            self.accepting = None;
            self.listener.take_if(|_| self.server.drain_until.is_some());
        }
        match completion.result {
            Ok(fd) => self.add_client(fd as RawFd),
            Err(Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) if is_connection_error(errno) => {}
            // Without a free descriptor an accept fails at once, even if the
            // accept queue is empty. With the spare one it waits for a client.
            Err(Errno::EMFILE | Errno::ENFILE)
                if self.server.spare.release() =>
            {
                self.is_short = true;
            }
            Err(errno) if is_resource_error(errno) => self.server.pause(errno),
            Err(errno) => return Err(errno).context("accept"),
        }
        Ok(())
    }

    pub fn add_client(&mut self, fd: RawFd) {
        // SAFETY: the accept has returned a new descriptor, which has no other
        // owner.
        let stream = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.server.drain_until.is_some() {
            return;
        }
        self.is_short = !self.server.spare.reacquire();
        if let Some(client) = self.server.add_client(stream) {
            self.in_flight.insert(client, InFlight::default());
            self.update_receive(client);
        }
    }
}
