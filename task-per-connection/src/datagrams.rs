//! The datagram service, in a task of its own: the task waits until the socket
//! is readable; then recvfrom(2) copies a datagram, and sendto(2) sends the
//! reply.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;

use common::limits::{
    ACCEPT_BACKOFF, DATAGRAMS_PER_ROUND, MAX_DATAGRAM, MAX_DATAGRAM_REPLY,
};
use common::{Cause, answer_datagram, log};

use crate::readiness::watch;
use crate::shared::Shared;
use crate::worker;

/// Starts the task. Without a socket it only waits for shutdown.
pub fn start(
    socket: Option<OwnedFd>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>> {
    if let Some(socket) = &socket {
        fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("O_NONBLOCK on the datagram socket")?;
    }
    let socket = socket.map(watch).transpose().context("epoll_ctl")?;
    let shared = Arc::clone(shared);
    Ok(tokio::spawn(async move {
        match socket {
            Some(socket) => serve(&socket, &shared).await,
            None => shared.shutdown.wait(0).await,
        }
    }))
}

/// Answers datagrams until shutdown is requested, and then those that were
/// queued by then.
async fn serve(socket: &AsyncFd<OwnedFd>, shared: &Shared) {
    let mut datagrams = Datagrams::new(socket.get_ref());
    let for_ever = async {
        while let Ok(mut ready) = socket.readable().await {
            match datagrams.answer_round(shared) {
                // Gives other tasks their turn.
                Ok(()) => yield_now().await,
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => {
                    log(Cause::Datagram, format_args!("recvfrom: {errno}"));
                    // Does not spin if the call keeps failing.
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    };
    select! {
        () = shared.shutdown.wait(0) => {}
        () = for_ever => {}
    }
    let _ = datagrams.answer_round(shared);
}

/// A datagram socket and the buffers for one datagram and its reply.
struct Datagrams<'a> {
    socket: &'a OwnedFd,
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl<'a> Datagrams<'a> {
    fn new(socket: &'a OwnedFd) -> Self {
        let input = vec![0; MAX_DATAGRAM].into_boxed_slice();
        let output = vec![0; MAX_DATAGRAM_REPLY].into_boxed_slice();
        Self { socket, input, output }
    }

    /// Answers what has arrived, up to a limit per round.
    fn answer_round(&mut self, shared: &Shared) -> nix::Result<()> {
        for _ in 0..DATAGRAMS_PER_ROUND {
            match self.answer(shared) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Receives one datagram and answers it.
    fn answer(&mut self, shared: &Shared) -> nix::Result<()> {
        let socket = self.socket.as_raw_fd();
        let received = recvfrom::<SockaddrStorage>(socket, &mut self.input);
        if received == Err(Errno::EAGAIN) {
            shared.empty_calls.add(1);
        }
        let (received, Some(client)) = received? else { return Ok(()) };
        shared.datagrams.add(1);
        let length = worker::borrow(|worker| {
            worker.about.counters = shared.counters();
            let (input, about) = (&self.input[..received], &worker.about);
            answer_datagram(input, about, &mut self.output)
        });
        if length == 0 {
            return Ok(());
        }
        // Never waits to send a reply: a client must be able to lose one
        // anyway.
        let flags = MsgFlags::MSG_DONTWAIT;
        if sendto(socket, &self.output[..length], &client, flags).is_err() {
            shared.datagrams_dropped.add(1);
        }
        Ok(())
    }
}
