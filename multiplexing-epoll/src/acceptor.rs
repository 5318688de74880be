//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPT_BACKOFF, ACCEPTS_PER_ROUND};
use common::{Cause, Timeout, log, reject};

use crate::accept::{accept, is_connection_error, is_resource_error};
use crate::connection::Connection;
use crate::{LISTENER, Server};

/// Returns how many connections to accept in a round with this many events. If
/// the listener's is the only one, there is mostly one connection, and a second
/// accept4 would return EAGAIN. That call is expensive, because it makes a
/// socket and a file before it looks at the accept queue (do_accept in
/// net/socket.c). The listener is level-triggered, so the next wait reports the
/// connections that are left, and comes at once, because the round has nothing
/// else to do.
pub fn accepts(events: usize) -> usize {
    if events == 1 { 1 } else { ACCEPTS_PER_ROUND }
}

impl Server<'_> {
    /// Accepts the connections in the accept queue, `most` at most.
    pub fn accept_pending(&mut self, most: usize) -> Result<()> {
        for _ in 0..most {
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
                        return self.pause(Errno::EMFILE);
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
                Ok(stream) => self.add_client(stream)?,
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
                    return self.pause(errno);
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.limit.allows(self.connections.len())
    }

    /// Adds a client, or rejects it if its socket can't be registered.
    fn add_client(&mut self, stream: OwnedFd) -> Result<()> {
        let id = self.about.counters.accepted + 1;
        let session = self.config.session(id);
        let key = self.connections.insert(Connection::new(stream, session));
        self.timers.start(key, Timeout::Idle, Instant::now());
        match self.register(key) {
            Ok(()) => {
                self.about.counters.accepted = id;
                self.about.counters.clients += 1;
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
    /// accept4 would only fail again.
    fn pause(&mut self, errno: Errno) -> Result<()> {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.paused_until = Some(self.now + ACCEPT_BACKOFF);
        self.watch_listener(EpollFlags::empty())
    }

    pub fn resume(&mut self) -> Result<()> {
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.paused_until = None;
            self.watch_listener(EpollFlags::EPOLLIN)?;
        }
        Ok(())
    }

    fn watch_listener(&self, interest: EpollFlags) -> Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let mut event = EpollEvent::new(interest, LISTENER);
        self.epoll.modify(listener, &mut event).context("epoll_ctl(MOD)")
    }
}
