//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;
use slotmap::DefaultKey;

use common::limits::ACCEPTS_PER_ROUND;
use common::reject;

use super::operation::Operation;
use super::room::Ceiling;
use super::{Client, PosixAio};
use crate::accept::{accept, is_connection_error, is_resource_error};

impl PosixAio<'_> {
    /// True while the accept queue may hold connections, and accepting is not
    /// paused.
    pub fn may_accept(&self) -> bool {
        self.has_new_clients
            && self.listener.is_some()
            && self.server.paused_until.is_none()
    }

    /// Accepts until the accept queue is empty, because no signal reports a
    /// connection that is left there, but only up to a limit per round.
    pub fn accept_pending(&mut self) -> Result<()> {
        let server = &mut self.server;
        server.paused_until.take_if(|until| *until <= server.now);
        let mut new_clients = Vec::new();
        for _ in 0..ACCEPTS_PER_ROUND {
            if !self.may_accept() {
                break;
            }
            let Some(listener) = &self.listener else { break };
            // The stream is blocking, because a helper thread waits in read.
            match accept(listener, SockFlag::SOCK_CLOEXEC) {
                Ok(stream) => {
                    new_clients.extend(self.add_client(stream));
                    if !self.server.spare.reacquire() {
                        self.server.pause(Errno::EMFILE);
                    }
                }
                Err(Errno::EAGAIN) => {
                    self.server.about.counters.empty_calls += 1;
                    self.server.spare.reacquire();
                    self.has_new_clients = false;
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                // The next accept4 succeeds, because the spare descriptor is
                // free.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.server.spare.release() => {}
                Err(errno) if is_resource_error(errno) => {
                    self.server.pause(errno);
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        self.require_threads(new_clients);
        Ok(())
    }

    /// Adds a connection and starts its first read, if there is room for its
    /// operations.
    pub fn add_client(&mut self, stream: OwnedFd) -> Option<DefaultKey> {
        let key = self.server.add_client(stream)?;
        let Ceiling { operations, setting } = self.ceiling;
        let has_room = self.clients.len() < operations;
        let mut operation = Operation::new(key);
        let stream = &self.server.connections[key].stream;
        let started = has_room.then(|| operation.receive(stream));
        self.clients.insert(key, Client { operation, is_over: false });
        let why = match started {
            Some(Ok(())) => return Some(key),
            Some(Err(errno)) => format!("aio_read: {errno}"),
            None => format!("{setting} allows {operations} operations"),
        };
        self.reject(key, &why);
        None
    }

    /// Rejects a new client that has already been added.
    pub fn reject(&mut self, key: DefaultKey, why: &str) {
        let stream = &self.server.connections[key].stream;
        reject(stream, format_args!("{why}"));
        self.server.about.counters.accepted -= 1;
        self.server.about.counters.rejected += 1;
        self.hang_up(key);
    }
}
