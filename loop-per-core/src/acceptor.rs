//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use common::limits::ACCEPT_BACKOFF;
use common::{Cause, Timeout, log, reject};

use crate::Server;
use crate::accept::{accept, is_connection_error, is_resource_error};
use crate::connection::Connection;
use crate::listener::Accept;

impl Server<'_> {
    /// Handles an event of the listener. An edge is reported only once, so it
    /// is remembered until accept4 returns EAGAIN.
    pub fn note_new_clients(&mut self) {
        // The edge may be reported after the shutdown, in the same wait.
        if self.listener.is_some() {
            self.new_clients_at.get_or_insert(self.now);
        }
    }

    /// Accepts connections in the accept queue, up to a limit per round.
    pub fn accept_pending(&mut self) -> Result<()> {
        if self.new_clients_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        for _ in 0..self.accepts_per_round()? {
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(listener.socket(), flags) {
                // The spare descriptor can't be opened again, so this
                // connection holds the last one.
                Ok(stream) if !self.shared.spare.reacquire() => {
                    reject(
                        stream,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    self.about.counters.rejected += 1;
                    if !self.shared.spare.reacquire() {
                        self.pause("accept4", Errno::EMFILE);
                        return Ok(());
                    }
                }
                Ok(stream) if !self.shared.acquire() => {
                    let max = self.shared.limit.max();
                    reject(
                        stream,
                        format_args!("--max-connections {max} reached"),
                    );
                    self.about.counters.rejected += 1;
                }
                Ok(stream) => self.add_client(stream)?,
                Err(Errno::EAGAIN) => {
                    self.about.counters.empty_calls += 1;
                    self.shared.spare.reacquire();
                    self.new_clients_at = None;
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                // The next accept4 succeeds, because the spare descriptor is
                // free.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.shared.spare.release() => {}
                Err(errno) if is_resource_error(errno) => {
                    self.pause("accept4", errno);
                    return Ok(());
                }
                // The supervisor has shut down the shared listener, and has
                // woken this loop to drain.
                Err(Errno::EINVAL) if self.shared.accept == Accept::Shared => {
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    /// Adds a client, or rejects it if epoll can't take its socket.
    fn add_client(&mut self, stream: OwnedFd) -> Result<()> {
        // The id is unique, because each loop counts in steps of their number.
        let (number, loops) = (self.number, self.shared.loops);
        let accepted = self.about.counters.accepted;
        let id = accepted * u64::from(loops) + u64::from(number) + 1;
        let session = self.config.session(id);
        let key = self.connections.insert(Connection::new(stream, session));
        self.timers.start(key, Timeout::Idle, Instant::now());
        match self.register(key) {
            Ok(()) => {
                self.about.counters.accepted += 1;
                Ok(())
            }
            // fs.epoll.max_user_watches is reached, or memory is short.
            Err(errno @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                let stream = &self.connections[key].stream;
                reject(stream, format_args!("epoll_ctl: {errno}"));
                self.about.counters.rejected += 1;
                self.close(key);
                Ok(())
            }
            Err(errno) => Err(errno).context("epoll_ctl(ADD)"),
        }
    }

    /// Pauses accepting until a client leaves or the back-off ends, because
    /// the call would only fail again.
    pub fn pause(&mut self, call: &str, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("{call}: {errno}; trying again in 100 ms"),
        );
        self.new_clients_at = Some(self.now + ACCEPT_BACKOFF);
        if let Some(listener) = &mut self.listener {
            listener.unwatch(&self.poll);
        }
    }
}
