//! The process that accepts: it waits for newcomers and signals, and serves
//! nobody itself.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPT_PAUSE, ACCEPTS_PER_ROUND};
use common::{About, Admission, Cause, Config, Reserve, notice, refuse};

use crate::accept::{accept, broke_off, is_shortage};
use crate::children::Children;
use crate::{converse, datagrams, stop};

/// The process that accepts. It serves nobody itself.
pub struct Parent<'a> {
    pub config: &'a Config,
    pub admission: Admission,
    /// `None` once a stop was asked for, and in a child.
    pub listener: Option<OwnedFd>,
    pub reserve: Reserve,
    /// `None` in a child.
    pub signals: Option<SignalFd>,
    pub children: Children,
    pub about: About,
    /// No descriptor or memory for a newcomer until then.
    pub paused_until: Option<Instant>,
    /// Set by a stop: the children have so long.
    pub drain_until: Option<Instant>,
}

impl Parent<'_> {
    /// True when a stop was asked for and nobody is left, or time is up.
    pub fn has_finished(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            self.children.is_empty() || until <= Instant::now()
        })
    }

    /// Waits for a signal or a newcomer: the parent's only wait.
    pub fn wait(&mut self) -> Result<(bool, bool)> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        let timeout = milliseconds(self.paused_until.or(self.drain_until), now);
        let signals = self.signals.as_ref().context("a child in the parent")?;
        let mut ready = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(listener) = &self.listener
            && self.paused_until.is_none()
        {
            ready.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let is_ready =
            |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
        Ok((
            ready.first().is_some_and(is_ready),
            ready.get(1).is_some_and(is_ready),
        ))
    }

    pub fn on_signal(&mut self) -> Result<()> {
        let signals = self.signals.as_ref().context("a child in the parent")?;
        while let Some(info) = stop::next(signals)? {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                // A place is free again.
                self.paused_until = None;
                continue;
            }
            if self.drain_until.is_some() {
                self.children.kill();
                bail!("stopped by a second signal");
            }
            self.listener = None;
            self.children.stop();
            self.drain_until = Some(Instant::now() + self.config.drain_timeout);
        }
        self.children.reap();
        if self.children.lost_datagrams() && self.drain_until.is_none() {
            self.children.kill();
            bail!("the process that serves datagrams has died");
        }
        Ok(())
    }

    /// Takes the newcomers, up to a round's worth of them.
    pub fn on_connected(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            match accept(listener, SockFlag::SOCK_CLOEXEC) {
                Ok(stream) if self.has_room() => self.welcome(&stream),
                Ok(newcomer) => {
                    refuse(newcomer);
                    self.about.counters.refused += 1;
                    if !self.reserve.retake() {
                        self.pause_accepting(Errno::EMFILE);
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
                    self.pause_accepting(errno);
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        self.reserve.retake() && self.admission.admits(self.children.clients())
    }

    /// Gives a newcomer a process of its own, or tells it that there is none.
    fn welcome(&mut self, stream: &OwnedFd) {
        self.about.counters.accepted += 1;
        self.about.counters.clients = self.children.clients() as u64 + 1;
        let config = self.config;
        let forked = self.fork(|about| {
            stop::wakes(stream.as_fd());
            converse(stream, config, about);
        });
        match forked {
            Ok(child) => self.children.add_client(child),
            Err(errno) => {
                notice(
                    Cause::Spawn,
                    format_args!("cannot fork: {}", errno.desc()),
                );
                refuse(stream);
                self.about.counters.refused += 1;
            }
        }
    }

    pub fn start_datagrams(&mut self, socket: &OwnedFd) -> Result<()> {
        let child = self.fork(|about| {
            if let Err(error) = datagrams::serve(socket, about) {
                eprintln!("error: {error:#}");
                std::process::exit(1);
            }
        })?;
        self.children.add_datagrams(child);
        Ok(())
    }

    /// Leaves newcomers in the backlog for a moment rather than spin.
    fn pause_accepting(&mut self, errno: Errno) {
        notice(
            Cause::Accept,
            format_args!("cannot accept for a moment: {}", errno.desc()),
        );
        self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
    }
}

/// The time until then in poll's unit, rounded up: a wait that ends early
/// would begin again at once, and again.
fn milliseconds(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(now).as_micros();
    PollTimeout::try_from(left.div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
