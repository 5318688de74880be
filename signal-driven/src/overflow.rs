//! Overflow of the queue of signals: events were lost, and only a check of all
//! sockets finds them.

use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use slotmap::DefaultKey;

use common::{Cause, log};

use crate::Server;
use crate::connection::Connection;

impl Server<'_> {
    /// Checks all sockets, because SIGIO was sent in place of a signal that
    /// could not be queued. SIGIO is a standard signal, which requires no room
    /// in the queue. So an event that is lost after this SIGIO was read sends
    /// another one.
    pub fn on_overflow(&mut self) {
        let clients = self.connections.len();
        log(
            Cause::Overflow,
            format_args!(
                "the queue of signals was full (ulimit -i): checked all \
                 {clients} clients with poll instead"
            ),
        );
        self.new_clients = self.listener.is_some();
        let keys: Vec<_> = self.connections.keys().collect();
        let mut sockets: Vec<_> = self
            .connections
            .values()
            .map(|it| PollFd::new(it.stream.as_fd(), interest(it)))
            .collect();
        let polled = poll_once(&mut sockets);
        let found: Vec<(DefaultKey, PollFlags)> = keys
            .into_iter()
            .zip(&sockets)
            .map(|(key, socket)| match polled {
                Ok(_) => (key, socket.revents().unwrap_or(PollFlags::all())),
                // poll had no memory for a list of this length, so each socket
                // is tried.
                Err(_) => (key, PollFlags::POLLIN | PollFlags::POLLOUT),
            })
            .filter(|(_, events)| !events.is_empty())
            .collect();
        for (key, events) in found {
            self.list(key, events);
        }
    }
}

/// Returns the events that the connection must not miss.
fn interest(connection: &Connection) -> PollFlags {
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::POLLIN, connection.wants_input());
    interest.set(PollFlags::POLLOUT, connection.has_output());
    interest
}

/// Polls without waiting.
fn poll_once(sockets: &mut [PollFd<'_>]) -> nix::Result<i32> {
    loop {
        match poll(sockets, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            polled => return polled,
        }
    }
}
