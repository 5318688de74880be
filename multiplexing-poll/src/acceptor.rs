//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPT_BACKOFF, ACCEPTS_PER_ROUND};
use common::{Cause, Timeout, log, reject};

use crate::Server;
use crate::accept::{accept, is_connection_error, is_resource_error};
use crate::connection::Connection;

impl Server<'_> {
    /// Accepts the connections in the accept queue, up to a limit per round.
    pub fn accept_pending(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(listener, flags) {
                // The spare descriptor can't be opened again, so this
                // connection holds the last one.
                Ok(stream) if !self.spare.reacquire() => {
                    reject(
                        stream,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    self.about.counters.rejected += 1;
                    if !self.spare.reacquire() {
                        self.pause(Errno::EMFILE);
                        return Ok(());
                    }
                }
                Ok(stream) if !self.has_room() => {
                    let max = self.limit.max();
                    reject(
                        stream,
                        format_args!("--max-connections {max} reached"),
                    );
                    self.about.counters.rejected += 1;
                }
                Ok(stream) => self.add_client(stream),
                Err(Errno::EAGAIN) => {
                    self.about.counters.empty_calls += 1;
                    self.spare.reacquire();
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                // The next accept4 succeeds, because the spare descriptor is
                // free.
                Err(Errno::EMFILE | Errno::ENFILE) if self.spare.release() => {}
                Err(errno) if is_resource_error(errno) => {
                    self.pause(errno);
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.limit.allows(self.connections.len())
    }

    fn add_client(&mut self, stream: OwnedFd) {
        self.about.counters.accepted += 1;
        self.about.counters.clients += 1;
        let id = self.about.counters.accepted;
        let session = self.config.session(id);
        let key = self.connections.insert(Connection::new(stream, session));
        self.timers.start(key, Timeout::Idle, Instant::now());
        self.register(key);
    }

    /// Pauses accepting until a client leaves or the back-off ends, because
    /// accept4 would only fail again.
    fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.paused_until = Some(self.now + ACCEPT_BACKOFF);
    }

    pub fn resume(&mut self) {
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.paused_until = None;
        }
    }
}
