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
    /// Takes the newcomers, up to a round's worth of them. If there are more,
    /// the next round takes them: of those no signal will tell again.
    pub fn on_connected(&mut self) -> Result<()> {
        if !self.newcomers || self.paused_until.is_some() {
            return Ok(());
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(listener, flags) {
                // It came in with the last descriptor, the reserve's.
                Ok(newcomer) if !self.reserve.retake() => {
                    refuse(
                        newcomer,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    self.about.counters.refused += 1;
                    if !self.reserve.retake() {
                        self.pause(Errno::EMFILE);
                        return Ok(());
                    }
                }
                Ok(newcomer) if !self.has_room() => {
                    let places = self.admission.places();
                    refuse(
                        newcomer,
                        format_args!("all {places} places are taken"),
                    );
                    self.about.counters.refused += 1;
                }
                Ok(stream) => self.welcome(stream),
                Err(Errno::EAGAIN) => {
                    self.about.counters.empty_calls += 1;
                    self.reserve.retake();
                    self.newcomers = false;
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) if broke_off(errno) => {}
                // The next accept4 succeeds, with the reserve's descriptor.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.reserve.release() => {}
                Err(errno) if is_refused(errno) => {
                    self.pause(errno);
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.admission.admits(self.connections.len())
    }

    /// Serves a newcomer, or tells it that it cannot be made to send signals.
    fn welcome(&mut self, stream: OwnedFd) {
        let id = self.about.counters.accepted + 1;
        let session = Session::new(id, self.config.max_request);
        let mut deadline = Deadline::new(self.config.idle_timeout, self.now);
        let key = self.connections.insert_with_key(|key| {
            self.deadlines.watch(key, &mut deadline);
            Connection::new(stream, session, deadline)
        });
        match self.register(key) {
            Ok(()) => {
                self.about.counters.accepted = id;
                self.about.counters.clients += 1;
            }
            // Memory is short.
            Err(errno) => {
                let stream = &self.connections[key].stream;
                refuse(stream, format_args!("fcntl: {errno}"));
                self.about.counters.refused += 1;
                self.close(key);
            }
        }
    }

    /// Leaves newcomers in the backlog until a client leaves, or for a moment:
    /// asked again at once, accept4 would only fail again.
    fn pause(&mut self, errno: Errno) {
        notice(
            Cause::Accept,
            format_args!("cannot accept for a moment: {errno}"),
        );
        self.paused_until = Some(self.now + SHORTAGE_PAUSE);
    }

    pub fn resume(&mut self) {
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.paused_until = None;
        }
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.resume(self.now);
        }
    }
}
