//! Accepting connections. The limits and the errors are the same policy in
//! every model: skip them on a first read. Connections over the limit are
//! rejected. Without a descriptor even for that, they stay in the accept queue
//! for a while.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPT_BACKOFF, ACCEPTS_PER_ROUND};
use common::{Cause, log, reject};

use crate::Parent;
use crate::accept::{accept, is_connection_error, is_resource_error};

/// Makes the listener non-blocking. A new client can disconnect between poll
/// and accept4, and an accept4 that waits would also delay the signals.
pub fn prepare(listener: Option<&OwnedFd>) -> Result<()> {
    if let Some(listener) = listener {
        fcntl(listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("O_NONBLOCK on the listener")?;
    }
    Ok(())
}

impl Parent<'_> {
    /// Accepts the connections in the accept queue, up to a limit per round.
    pub fn accept_pending(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            match accept(listener, SockFlag::SOCK_CLOEXEC) {
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
                Ok(stream) => self.serve_client(stream),
                Err(Errno::EAGAIN) => {
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
        self.limit.allows(self.children.clients())
    }

    /// Pauses accepting until a client leaves or the back-off ends; polling a
    /// listener that stays readable would spin.
    fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.paused_until = Some(Instant::now() + ACCEPT_BACKOFF);
    }
}
