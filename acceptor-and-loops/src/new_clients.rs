//! New clients in a loop: taking them from the queue, or rejecting them. The
//! limits and the errors are a policy: skip them on a first read.

use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use common::limits::{ACCEPT_BACKOFF, ACCEPTS_PER_ROUND};
use common::{Cause, Timeout, log};

use crate::Server;
use crate::accept::is_resource_error;
use crate::connection::Connection;
use crate::hand_over::{Head, NewClient};

impl Server<'_> {
    /// Handles an event of the queue. It is reported only once, so this is
    /// remembered until the queue is empty.
    pub fn note_new_clients(&mut self) {
        // The event may be reported after the end, in the same wait.
        if self.inbox.is_some() {
            self.new_clients_at.get_or_insert(self.now);
        }
    }

    /// Takes the clients in the queue, up to a limit per round.
    pub fn take_pending(&mut self) -> Result<()> {
        if self.new_clients_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(inbox) = &mut self.inbox else { return Ok(()) };
            match inbox.take() {
                Ok(Head::Client(client)) => {
                    let full = inbox.is_full(&client);
                    self.shared.take(self.number);
                    match full {
                        true => self.reject(&client),
                        false => self.add_client(client)?,
                    }
                }
                Ok(Head::Empty) => {
                    self.new_clients_at = None;
                    return Ok(());
                }
                Ok(Head::End) => {
                    self.begin_drain();
                    return Ok(());
                }
                Ok(Head::Lost) => self.forget(),
                Err(Errno::EINTR) => {}
                Err(errno) if is_resource_error(errno) => {
                    self.pause(errno);
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("recvmsg"),
            }
        }
        Ok(())
    }

    /// Adds a client, or rejects it if epoll can't take its socket.
    fn add_client(&mut self, client: NewClient) -> Result<()> {
        let NewClient { stream, id } = client;
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
                self.shared.reject(stream, format_args!("epoll_ctl: {errno}"));
                self.close(key);
                Ok(())
            }
            Err(errno) => Err(errno).context("epoll_ctl(ADD)"),
        }
    }

    /// Rejects a client that holds the last descriptor of this process. Without
    /// a free one the next client would be lost: the kernel closes a socket for
    /// which there is no number. It assigns the lowest free number
    /// (fs/file.c, alloc_fd), so the highest means that no other is free.
    fn reject(&mut self, client: &NewClient) {
        let number = self.number;
        self.shared.reject(
            &client.stream,
            format_args!("EMFILE in loop process {number} (ulimit -Hn)"),
        );
        self.shared.release(number);
    }

    /// Stops counting a client that was lost on its way, although a free
    /// descriptor was left: someone has changed the limit. The client sees that
    /// the connection is closed, because no process has its socket any more.
    fn forget(&mut self) {
        log(
            Cause::Rejected,
            format_args!("a client was lost: recvmsg: EMFILE (MSG_CTRUNC)"),
        );
        self.shared.take(self.number);
        self.shared.release(self.number);
    }

    /// Pauses taking clients until the back-off ends, because recvmsg would
    /// only fail again.
    fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("recvmsg: {errno}; trying again in 100 ms"),
        );
        self.new_clients_at = Some(self.now + ACCEPT_BACKOFF);
    }
}
