//! The queue of signals was full: something has happened, and only a look at
//! everything tells what.

use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use slotmap::DefaultKey;

use common::{Cause, log};

use crate::Server;
use crate::connection::Connection;

impl Server<'_> {
    /// SIGIO was sent in place of a signal that could not be queued. It is an
    /// ordinary signal, which needs no place in the queue: whatever is lost
    /// after this one was taken sends another.
    pub fn on_overflow(&mut self) {
        let clients = self.connections.len();
        log(
            Cause::Overflow,
            format_args!(
                "the queue of signals was full (ulimit -i): looked at all \
                 {clients} clients instead"
            ),
        );
        self.new_clients = self.listener.is_some();
        let keys: Vec<_> = self.connections.keys().collect();
        let mut sockets: Vec<_> = self
            .connections
            .values()
            .map(|it| PollFd::new(it.stream.as_fd(), interest(it)))
            .collect();
        let looked = look(&mut sockets);
        let found: Vec<(DefaultKey, PollFlags)> = keys
            .into_iter()
            .zip(&sockets)
            .map(|(key, socket)| match looked {
                Ok(_) => (key, socket.revents().unwrap_or(PollFlags::all())),
                // No memory for so long a list: each call says for itself.
                Err(_) => (key, PollFlags::POLLIN | PollFlags::POLLOUT),
            })
            .filter(|(_, events)| !events.is_empty())
            .collect();
        for (key, events) in found {
            self.list(key, events);
        }
    }
}

/// What the loss of may be felt.
fn interest(connection: &Connection) -> PollFlags {
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::POLLIN, connection.wants_input());
    interest.set(PollFlags::POLLOUT, connection.has_output());
    interest
}

fn look(sockets: &mut [PollFd<'_>]) -> nix::Result<i32> {
    loop {
        match poll(sockets, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            looked => return looked,
        }
    }
}
