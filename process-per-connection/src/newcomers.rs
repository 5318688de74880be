//! Newcomers: taken by rounds, refused where there is no room, left in the
//! backlog where not even that is possible.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPTS_PER_ROUND, SHORTAGE_PAUSE};
use common::{Cause, notice, refuse};

use crate::Parent;
use crate::accept::{accept, broke_off, is_refused};

/// The listener does not wait: between poll and accept4 a newcomer may have
/// left again, and the signals would wait with us.
pub fn prepare(listener: Option<&OwnedFd>) -> Result<()> {
    if let Some(listener) = listener {
        fcntl(listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("O_NONBLOCK on the listener")?;
    }
    Ok(())
}

impl Parent<'_> {
    /// Takes the newcomers, up to a round's worth of them.
    pub fn on_connected(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            match accept(listener, SockFlag::SOCK_CLOEXEC) {
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
                    self.reserve.retake();
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
        self.admission.admits(self.children.clients())
    }

    /// Leaves newcomers in the backlog until a client leaves, or for a moment,
    /// rather than spin on a listener that stays readable.
    fn pause(&mut self, errno: Errno) {
        notice(
            Cause::Accept,
            format_args!("cannot accept for a moment: {errno}"),
        );
        self.paused_until = Some(Instant::now() + SHORTAGE_PAUSE);
    }
}
