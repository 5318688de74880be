//! Newcomers: taken by rounds, refused where there is no room, left in the
//! backlog where not even that is possible.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPTS_PER_ROUND, SHORTAGE_PAUSE};
use common::{Cause, Deadline, Session, notice, refuse};

use crate::Server;
use crate::accept::{accept, broke_off, is_refused};
use crate::connection::Connection;

impl Server<'_> {
    /// Newcomers have come. An edge tells it once, so that is remembered until
    /// accept4 finds nobody any more.
    pub fn on_connected(&mut self) {
        // The edge may be reported after that of a stop, in the same wait.
        if self.listener.is_some() {
            self.newcomers_at.get_or_insert(self.now);
        }
    }

    /// Takes the newcomers, up to a round's worth of them.
    pub fn take_newcomers(&mut self) -> Result<()> {
        if self.newcomers_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(listener, flags) {
                // It came in with the last descriptor, the reserve's.
                Ok(newcomer) if !self.shared.reserve.retake() => {
                    refuse(
                        newcomer,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    self.about.counters.refused += 1;
                    if !self.shared.reserve.retake() {
                        self.pause(Errno::EMFILE);
                        return Ok(());
                    }
                }
                Ok(newcomer) if !self.shared.enter() => {
                    let places = self.shared.admission.places();
                    refuse(
                        newcomer,
                        format_args!("all {places} places are taken"),
                    );
                    self.about.counters.refused += 1;
                }
                Ok(stream) => self.welcome(stream)?,
                Err(Errno::EAGAIN) => {
                    self.about.counters.empty_calls += 1;
                    self.shared.reserve.retake();
                    self.newcomers_at = None;
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) if broke_off(errno) => {}
                // The next accept4 succeeds, with the reserve's descriptor.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.shared.reserve.release() => {}
                Err(errno) if is_refused(errno) => {
                    self.pause(errno);
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    /// Serves a newcomer, or tells it that epoll cannot take it in.
    fn welcome(&mut self, stream: OwnedFd) -> Result<()> {
        // No other loop has it: each counts in steps of their number.
        let (number, loops) = (self.number, self.shared.loops);
        let accepted = self.about.counters.accepted;
        let id = accepted * u64::from(loops) + u64::from(number) + 1;
        let session = Session::new(id, self.config.max_request);
        let mut deadline = Deadline::new(self.config.idle_timeout, self.now);
        let key = self.connections.insert_with_key(|key| {
            self.deadlines.watch(key, &mut deadline);
            Connection::new(stream, session, deadline)
        });
        match self.register(key) {
            Ok(()) => {
                self.about.counters.accepted += 1;
                Ok(())
            }
            // fs.epoll.max_user_watches is reached, or memory is short.
            Err(errno @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                let stream = &self.connections[key].stream;
                refuse(stream, format_args!("epoll_ctl: {errno}"));
                self.about.counters.refused += 1;
                self.close(key);
                Ok(())
            }
            Err(errno) => Err(errno).context("epoll_ctl(ADD)"),
        }
    }

    /// Leaves newcomers in the backlog until a client leaves, or for a moment,
    /// rather than spin.
    fn pause(&mut self, errno: Errno) {
        notice(
            Cause::Accept,
            format_args!("cannot accept for a moment: {errno}"),
        );
        self.newcomers_at = Some(self.now + SHORTAGE_PAUSE);
    }
}
