//! Newcomers: taken by rounds, refused where there is no room, left in the
//! backlog where not even that is possible.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPT_PAUSE, ACCEPTS_PER_ROUND};
use common::{Cause, Deadline, Session, notice, refuse};

use crate::accept::{accept, broke_off, is_shortage};
use crate::connection::Connection;
use crate::{LISTENER, Server};

impl Server<'_> {
    /// Takes the newcomers, up to a round's worth of them.
    pub fn on_connected(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(listener, flags) {
                Ok(stream) if self.has_room() => self.welcome(stream)?,
                Ok(newcomer) => {
                    refuse(newcomer);
                    self.about.counters.refused += 1;
                    if !self.reserve.retake() {
                        return self.pause_accepting(Errno::EMFILE);
                    }
                }
                Err(Errno::EAGAIN) => {
                    self.reserve.retake();
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) if broke_off(errno) => {}
                // With the reserve's descriptor the next accept4 succeeds.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.reserve.release() => {}
                Err(errno) if is_shortage(errno) => {
                    return self.pause_accepting(errno);
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        self.reserve.retake() && self.admission.admits(self.connections.len())
    }

    /// Serves a newcomer, or tells it that epoll cannot take it in.
    fn welcome(&mut self, stream: OwnedFd) -> Result<()> {
        self.about.counters.accepted += 1;
        self.about.counters.clients += 1;
        let id = self.about.counters.accepted;
        let session = Session::new(id, self.config.max_request);
        let mut deadline = Deadline::new(self.config.idle_timeout, self.now);
        let key = self.connections.insert_with_key(|key| {
            self.deadlines.watch(key, &mut deadline);
            Connection::new(stream, session, deadline)
        });
        match self.register(key) {
            Ok(()) => Ok(()),
            // fs.epoll.max_user_watches is reached, or memory is short.
            Err(Errno::ENOSPC | Errno::ENOMEM) => {
                refuse(&self.connections[key].stream);
                self.about.counters.refused += 1;
                self.close(key);
                Ok(())
            }
            Err(errno) => Err(errno).context("epoll_ctl(ADD)"),
        }
    }

    /// Leaves newcomers in the backlog until a client leaves, or for a moment,
    /// rather than spin on a listener that stays readable.
    fn pause_accepting(&mut self, errno: Errno) -> Result<()> {
        notice(
            Cause::Accept,
            format_args!("cannot accept for a moment: {}", errno.desc()),
        );
        self.paused_until = Some(self.now + ACCEPT_PAUSE);
        self.watch_listener(EpollFlags::empty())
    }

    pub fn resume_accepting(&mut self) -> Result<()> {
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
