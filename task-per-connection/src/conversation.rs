//! One conversation in a task: the one of `blocking`, but where that waits in
//! a call, this awaits that the call has something to do.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::select;
use tokio::task::{consume_budget, yield_now};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use common::limits::{ACK_POLL_INTERVAL, LINGER, READ_BUDGET};
use common::{Cause, Session, Timer, log};

use crate::queues::{unacknowledged, unread};
use crate::readiness::Ready;
use crate::shared::Shared;
use crate::worker::{self, Worker};

/// When a timer rings that has no deadline to watch.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Serves one client from its first byte to its last.
pub async fn converse(
    stream: &AsyncFd<OwnedFd>,
    shared: &Shared,
    id: u64,
    shutdown: CancellationToken,
) {
    let (config, now) = (&shared.config, Instant::now());
    let mut conversation = Conversation {
        stream,
        session: Session::new(id, config.max_request),
        timer: Timer::new(config.idle_timeout, now),
        alarm: pin!(sleep(config.idle_timeout.unwrap_or(NEVER))),
        shutdown,
        remaining_input: None,
        shared,
    };
    match conversation.converse().await {
        Ok(()) => {}
        Err(errno) if is_peer_error(errno) => {}
        Err(errno) => log(
            Cause::Conversation,
            format_args!("a conversation failed: {errno}"),
        ),
    }
}

/// One client: its socket and its half of the protocol. What is kept here is
/// kept for each client, so buffers are not.
struct Conversation<'a> {
    stream: &'a AsyncFd<OwnedFd>,
    session: Session,
    timer: Timer,
    /// Rings at a deadline, perhaps an old one: it is set anew when it rings,
    /// not with each request.
    alarm: Pin<&'a mut Sleep>,
    shutdown: CancellationToken,
    /// During the drain: how many of the bytes that had arrived when it began
    /// are still to be received.
    remaining_input: Option<usize>,
    shared: &'a Shared,
}

impl<'a> Conversation<'a> {
    async fn converse(&mut self) -> nix::Result<()> {
        let mut turn = 0;
        while self.session.wants_input() && self.remaining_input != Some(0) {
            let ready = self.ready(Interest::READABLE).await?;
            if self.is_input_drained()? {
                break;
            }
            let mut output = Vec::new();
            let received = worker::borrow(|worker| {
                self.receive(ready, worker, &mut output)
            })?;
            if received == Some(0) {
                // End of file, and everything before it is answered.
                return Ok(());
            }
            self.send_all(&output).await?;
            worker::give_back(output);
            turn += received.unwrap_or(0);
            if turn >= READ_BUDGET {
                turn = 0;
                yield_now().await;
            }
        }
        self.end().await
    }

    /// Phase 1: waits until the kernel says that a call has something to do,
    /// while the worker runs other tasks. `None`: the alarm has rung, or a
    /// stop was asked for, which comes once.
    async fn ready(
        &mut self,
        interest: Interest,
    ) -> nix::Result<Option<Ready<'a>>> {
        // A socket that is always ready never waits below: after so many
        // rounds the others have their turn all the same.
        consume_budget().await;
        select! {
            biased;
            ready = self.stream.ready(interest) => {
                // Fails only where the runtime is gone, and we with it.
                Ok(ready.ok())
            }
            () = self.shutdown.cancelled(), if self.remaining_input.is_none() => {
                self.is_input_drained()?;
                Ok(None)
            }
            () = &mut self.alarm => {
                let left = self.timer.remaining(Instant::now());
                self.set_alarm(left.unwrap_or(NEVER));
                Ok(None)
            }
        }
    }

    /// Phase 2, and the answer to what has arrived. `None`: it was nothing.
    /// Once the time is up this takes what is there, which may have come in
    /// time, and waits no more.
    fn receive(
        &mut self,
        ready: Option<Ready<'a>>,
        worker: &mut Worker,
        output: &mut Vec<u8>,
    ) -> nix::Result<Option<usize>> {
        let received = self.take(ready, &mut worker.input[..])?;
        let Some(received @ 1..) = received else { return Ok(received) };
        self.remaining_input =
            self.remaining_input.map(|left| left.saturating_sub(received));
        mem::swap(output, &mut worker.output);
        worker.about.counters = self.shared.counters();
        let input = &worker.input[..received];
        let completed = self.session.receive(input, &worker.about, output);
        if completed > 0 {
            self.shared.requests.add(completed);
            self.timer.restart(Instant::now());
        } else if self.is_late() {
            return Err(Errno::ETIMEDOUT);
        }
        Ok(Some(received))
    }

    /// Copies what has arrived, without waiting.
    fn take(
        &self,
        ready: Option<Ready<'a>>,
        input: &mut [u8],
    ) -> nix::Result<Option<usize>> {
        match recv(self.stream.as_raw_fd(), input, MsgFlags::empty()) {
            Err(Errno::EAGAIN) => {
                self.shared.empty_calls.add(1);
                self.end_readiness(ready)?;
                Ok(None)
            }
            Err(Errno::EINTR) => Ok(None),
            received => received.map(Some),
        }
    }

    /// Sends everything. The kernel takes what fits its buffer, and the task
    /// waits for the client to read: the client's slowness is its own bound.
    async fn send_all(&mut self, output: &[u8]) -> nix::Result<()> {
        let mut sent = 0;
        while sent < output.len() {
            let ready = self.ready(Interest::WRITABLE).await?;
            let stream = self.stream.as_raw_fd();
            match send(stream, &output[sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(accepted) => sent += accepted,
                Err(Errno::EAGAIN) => self.end_readiness(ready)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// A call has said EAGAIN, so the socket must be waited for again, unless
    /// the time is up. The kernel tells once that a socket has become ready
    /// (an edge), and tokio believes it until it hears of the contrary.
    fn end_readiness(&self, ready: Option<Ready<'a>>) -> nix::Result<()> {
        if let Some(mut ready) = ready {
            ready.clear_ready();
        }
        if self.is_late() { Err(Errno::ETIMEDOUT) } else { Ok(()) }
    }

    /// Ends the conversation so that the last replies arrive: says that no
    /// more will come, then waits for the client to say the same. After a stop
    /// it is enough that the client's kernel has everything; nothing tells
    /// that moment, so this looks now and then.
    async fn end(&mut self) -> nix::Result<()> {
        if self.is_acknowledged()? {
            return Ok(());
        }
        shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
        self.timer.end_within(LINGER, Instant::now());
        self.set_alarm(LINGER);
        while !self.is_acknowledged()? && !self.is_late() {
            if self.remaining_input.is_some() {
                self.set_alarm(ACK_POLL_INTERVAL);
            }
            let ready = self.ready(Interest::READABLE).await?;
            let discarded = worker::borrow(|worker| {
                self.take(ready, &mut worker.input[..])
            })?;
            if discarded == Some(0) {
                break;
            }
        }
        Ok(())
    }

    /// True during the drain once everything that had arrived when it began is
    /// received. What the client sends later is ignored.
    fn is_input_drained(&mut self) -> nix::Result<bool> {
        if self.remaining_input.is_none() && self.shutdown.is_cancelled() {
            self.remaining_input = Some(unread(self.stream.get_ref())?);
        }
        Ok(self.remaining_input == Some(0))
    }

    /// True during the drain once the client's kernel has acknowledged all
    /// replies. The connection is closed then, without waiting for end of file.
    fn is_acknowledged(&mut self) -> nix::Result<bool> {
        self.is_input_drained()?;
        let stream = self.stream.get_ref();
        Ok(self.remaining_input.is_some() && unacknowledged(stream)? == 0)
    }

    fn is_late(&self) -> bool {
        self.timer.has_expired(Instant::now())
    }

    fn set_alarm(&mut self, left: Duration) {
        self.alarm.as_mut().reset(tokio::time::Instant::now() + left);
    }
}

/// True where the client left, broke off, was lost, or let its time run out:
/// its own affair, and nothing to report.
fn is_peer_error(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNRESET
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ENOTCONN
            | Errno::EPIPE
            | Errno::ETIMEDOUT
    )
}
