//! The listener of a loop: its own, or in `shared` the one of all loops.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use mio::Poll;
use mio::unix::SourceFd;
use nix::errno::Errno;
use nix::libc;

use common::limits::ACCEPTS_PER_ROUND;

use crate::{LISTENER, READABLE, Server};

/// How new connections come to the loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// A listener for each loop, with SO_REUSEPORT.
    Reuseport,
    /// One listener for all loops, with EPOLLEXCLUSIVE.
    Shared,
}

impl Accept {
    /// Returns the name on the command line and in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reuseport => "reuseport",
            Self::Shared => "shared",
        }
    }
}

/// The most connections that a loop accepts from a shared listener in one
/// round. They are few, because another loop may soon be free, and no loop
/// hands over a client. They are more than one, because a round of a busy loop
/// answers all its clients, and each new client would wait for a round. Both
/// show in the suite, in `busy_loops_share_what_waits` and
/// `busy_loop_accepts_several`.
const SHARED_ACCEPTS_PER_ROUND: usize = 8;

/// A listener, as one loop has it.
pub enum Listener {
    Own(OwnedFd),
    /// It is watched except while this loop's accepting pauses.
    Shared {
        socket: Arc<OwnedFd>,
        watched: bool,
    },
}

impl Listener {
    pub fn socket(&self) -> &OwnedFd {
        match self {
            Self::Own(socket) => socket,
            Self::Shared { socket, .. } => socket,
        }
    }

    /// Adds the listener to a loop's interest list; a shared one only if it is
    /// not there.
    pub fn watch(&mut self, poll: &Poll) -> nix::Result<()> {
        match self {
            Self::Own(socket) => {
                let mut source = SourceFd(&socket.as_raw_fd());
                poll.registry()
                    .register(&mut source, LISTENER, READABLE)
                    .map_err(|error| {
                        Errno::try_from(error).unwrap_or(Errno::EIO)
                    })
            }
            Self::Shared { watched: true, .. } => Ok(()),
            Self::Shared { socket, watched } => {
                add_exclusive(poll, socket)?;
                *watched = true;
                Ok(())
            }
        }
    }

    /// Removes a shared listener from a loop's interest list, where it would be
    /// reported as long as its accept queue is not empty. EPOLL_CTL_MOD is not
    /// allowed with EPOLLEXCLUSIVE (epoll_ctl(2)). A loop's own listener stays:
    /// an edge is not repeated, and closing it removes it.
    pub fn unwatch(&mut self, poll: &Poll) {
        if let Self::Shared { socket, watched: watched @ true } = self {
            let mut source = SourceFd(&socket.as_raw_fd());
            // Fails only for a descriptor that is not on the list.
            let _ = poll.registry().deregister(&mut source);
            *watched = false;
        }
    }
}

/// Adds a listener that other epoll instances wait for too. mio has no
/// EPOLLEXCLUSIVE, but reports the event like all others, because its token is
/// the event's data.
///
/// The listener is level-triggered. A new connection puts it on the ready list
/// of the first loop that waits, and of those that precede this loop in the
/// listener's wait queue and don't wait (ep_poll_callback in fs/eventpoll.c).
/// There it stays until epoll_wait finds the accept queue empty
/// (ep_send_events). So a loop that leaves connections in the queue is woken
/// again. An edge would be reported to each loop once: what the loops then
/// leave would stay in the queue until another connection comes.
fn add_exclusive(poll: &Poll, listener: &OwnedFd) -> nix::Result<()> {
    let events = libc::EPOLLIN | libc::EPOLLEXCLUSIVE;
    let data = usize::from(LISTENER) as u64;
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    let (epoll, add) = (poll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: both descriptors are open, and `event` outlives the call.
    let result = unsafe {
        libc::epoll_ctl(epoll, add, listener.as_raw_fd(), &raw mut event)
    };
    Errno::result(result).map(drop)
}

impl Server<'_> {
    /// Returns how many times to call accept4 in this round. If connections are
    /// left, the next wait reports a shared listener again. After a pause it is
    /// added again, which checks its accept queue (ep_insert in
    /// fs/eventpoll.c).
    pub fn accepts_per_round(&mut self) -> Result<usize> {
        let listener = match &mut self.listener {
            None => return Ok(0),
            Some(Listener::Own(_)) => return Ok(ACCEPTS_PER_ROUND),
            Some(listener) => listener,
        };
        match listener.watch(&self.poll) {
            Ok(()) => {
                self.new_clients_at = None;
                Ok(SHARED_ACCEPTS_PER_ROUND)
            }
            // fs.epoll.max_user_watches is reached, or memory is short.
            Err(errno @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                self.pause("epoll_ctl", errno);
                Ok(0)
            }
            Err(errno) => Err(errno).context("epoll_ctl(ADD)"),
        }
    }
}
