//! Newcomers: taken by rounds, refused where there is no room, left in the
//! backlog where not even that is possible.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::SockFlag;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use common::limits::{ACCEPTS_PER_ROUND, SHORTAGE_PAUSE};
use common::{Admission, Cause, Reserve, notice, refuse};

use crate::accept::{accept, broke_off, is_refused};
use crate::conversation::converse;
use crate::readiness::{Ready, watch};
use crate::shared::Shared;

/// Where newcomers come in.
pub struct Newcomers {
    listener: Option<AsyncFd<OwnedFd>>,
    reserve: Reserve,
    admission: Admission,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// A round's result: accept4 cannot go on for want of something.
type Shortage = Option<Errno>;

impl Newcomers {
    /// Call it when everything is bound.
    pub fn expect(
        listener: Option<OwnedFd>,
        shared: &Arc<Shared>,
        stop: &CancellationToken,
    ) -> Result<Self> {
        if let Some(listener) = &listener {
            fcntl(listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .context("O_NONBLOCK on the listener")?;
        }
        Ok(Self {
            listener: listener.map(watch).transpose().context("epoll_ctl")?,
            reserve: Reserve::hold()?,
            admission: Admission::new(&shared.config, 1),
            shared: Arc::clone(shared),
            stop: stop.clone(),
        })
    }

    /// Takes newcomers, for ever unless accept4 fails for good.
    pub async fn welcome_all(&mut self) -> Result<()> {
        let Some(listener) = self.listener.take() else {
            return pending().await;
        };
        loop {
            let ready = listener.readable().await?;
            if let Some(errno) = self.on_connected(ready)? {
                self.pause(errno).await;
            }
            // The signals have their turn.
            yield_now().await;
        }
    }

    /// Takes the newcomers, up to a round's worth of them.
    fn on_connected(&mut self, mut ready: Ready<'_>) -> Result<Shortage> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(ready.get_inner(), flags) {
                // It came in with the last descriptor, the reserve's.
                Ok(newcomer) if !self.reserve.retake() => {
                    refuse(
                        newcomer,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    self.shared.refused.add(1);
                    if !self.reserve.retake() {
                        return Ok(Some(Errno::EMFILE));
                    }
                }
                Ok(newcomer) if !self.has_room() => {
                    let places = self.admission.places();
                    refuse(
                        newcomer,
                        format_args!("all {places} places are taken"),
                    );
                    self.shared.refused.add(1);
                }
                Ok(stream) => self.welcome(stream)?,
                Err(Errno::EAGAIN) => {
                    self.shared.empty_calls.add(1);
                    self.reserve.retake();
                    ready.clear_ready();
                    return Ok(None);
                }
                Err(Errno::EINTR) => {}
                Err(errno) if broke_off(errno) => {}
                // The next accept4 succeeds, with the reserve's descriptor.
                Err(Errno::EMFILE | Errno::ENFILE)
                    if self.reserve.release() => {}
                Err(errno) if is_refused(errno) => return Ok(Some(errno)),
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(None)
    }

    /// A client has its place until its conversation has ended.
    fn has_room(&self) -> bool {
        self.admission.admits(self.shared.clients.len())
    }

    /// Gives a newcomer a task of its own, or tells it that epoll cannot take
    /// its socket in.
    fn welcome(&mut self, stream: OwnedFd) -> Result<()> {
        match watch(stream) {
            Ok(stream) => {
                let shared = Arc::clone(&self.shared);
                // A token of its own, a child of the server's: no two tasks
                // meet at its lock.
                let stop = self.stop.child_token();
                let id = shared.accepted.add(1);
                let place = shared.clients.token();
                tokio::spawn(async move {
                    converse(&stream, &shared, id, stop).await;
                    // Before the stream is closed: who sees that may come
                    // again at once.
                    drop(place);
                    drop(stream);
                    shared.left.notify_one();
                });
                Ok(())
            }
            Err(error) => {
                let (stream, error) = error.into_parts();
                let errno = error.try_into().unwrap_or(Errno::UnknownErrno);
                refuse(stream, format_args!("epoll_ctl: {errno}"));
                self.shared.refused.add(1);
                match errno {
                    // fs.epoll.max_user_watches is reached, or memory is short.
                    Errno::ENOSPC | Errno::ENOMEM => Ok(()),
                    errno => Err(errno).context("epoll_ctl(ADD)"),
                }
            }
        }
    }

    /// Leaves newcomers in the backlog until a client leaves, or for a moment,
    /// rather than spin on a listener that stays readable.
    async fn pause(&self, errno: Errno) {
        notice(
            Cause::Accept,
            format_args!("cannot accept for a moment: {errno}"),
        );
        let _ = timeout(SHORTAGE_PAUSE, self.shared.left.notified()).await;
    }
}
