//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::SockFlag;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::timeout;

use common::limits::{ACCEPT_BACKOFF, ACCEPTS_PER_ROUND};
use common::{Cause, ConnectionLimit, SpareDescriptor, log, reject};

use crate::accept::{accept, is_connection_error, is_resource_error};
use crate::conversation;
use crate::readiness::{Ready, watch};
use crate::shared::Shared;

/// Accepts connections, and starts a task for each.
pub struct Acceptor {
    listener: Option<AsyncFd<OwnedFd>>,
    spare: SpareDescriptor,
    limit: ConnectionLimit,
    shared: Arc<Shared>,
}

/// The result of a round: the resource error at which accepting pauses.
type Shortage = Option<Errno>;

impl Acceptor {
    /// Registers the listener and computes the connection limit, so it must be
    /// called after all sockets are bound.
    pub fn new(
        listener: Option<OwnedFd>,
        shared: &Arc<Shared>,
    ) -> Result<Self> {
        if let Some(listener) = &listener {
            fcntl(listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .context("O_NONBLOCK on the listener")?;
        }
        Ok(Self {
            listener: listener.map(watch).transpose().context("epoll_ctl")?,
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::new(&shared.config, 1),
            shared: Arc::clone(shared),
        })
    }

    /// Accepts connections until accept4 fails with an unexpected error.
    pub async fn run(&mut self) -> Result<()> {
        let Some(listener) = self.listener.take() else {
            return pending().await;
        };
        loop {
            let ready = listener.readable().await?;
            if let Some(errno) = self.accept_pending(ready)? {
                self.pause(errno).await;
            }
            // Gives the signals a turn.
            yield_now().await;
        }
    }

    /// Accepts the connections in the accept queue, up to a limit per round.
    fn accept_pending(&mut self, mut ready: Ready<'_>) -> Result<Shortage> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(ready.get_inner(), flags) {
                // The spare descriptor can't be opened again, so this
                // connection holds the last one.
                Ok(stream) if !self.spare.reacquire() => {
                    reject(
                        stream,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    self.shared.rejected.add(1);
                    if !self.spare.reacquire() {
                        return Ok(Some(Errno::EMFILE));
                    }
                }
                Ok(stream) if !self.has_room() => {
                    let max = self.limit.max();
                    reject(
                        stream,
                        format_args!("--max-connections {max} reached"),
                    );
                    self.shared.rejected.add(1);
                }
                Ok(stream) => self.serve_client(stream)?,
                Err(Errno::EAGAIN) => {
                    self.shared.empty_calls.add(1);
                    self.spare.reacquire();
                    ready.clear_ready();
                    return Ok(None);
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                // The next accept4 succeeds, because the spare descriptor is
                // free.
                Err(Errno::EMFILE | Errno::ENFILE) if self.spare.release() => {}
                Err(errno) if is_resource_error(errno) => {
                    return Ok(Some(errno));
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(None)
    }

    /// A client counts until its conversation has ended.
    fn has_room(&self) -> bool {
        self.limit.allows(self.shared.clients.len())
    }

    /// Starts a task for a new client, or rejects the connection if its socket
    /// cannot be registered with epoll.
    fn serve_client(&mut self, stream: OwnedFd) -> Result<()> {
        match watch(stream) {
            Ok(stream) => {
                conversation::start(stream, Arc::clone(&self.shared));
                Ok(())
            }
            Err(error) => {
                let (stream, error) = error.into_parts();
                let errno = error.try_into().unwrap_or(Errno::UnknownErrno);
                reject(stream, format_args!("epoll_ctl: {errno}"));
                self.shared.rejected.add(1);
                match errno {
                    // fs.epoll.max_user_watches is reached, or there is no
                    // memory.
                    Errno::ENOSPC | Errno::ENOMEM => Ok(()),
                    errno => Err(errno).context("epoll_ctl(ADD)"),
                }
            }
        }
    }

    /// Pauses accepting until a client leaves or the back-off ends; polling a
    /// listener that stays readable would spin. A client that left before,
    /// since the last pause, ends this one at once, and accepting is tried
    /// again.
    async fn pause(&self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        let _ = timeout(ACCEPT_BACKOFF, self.shared.departed.notified()).await;
    }
}
