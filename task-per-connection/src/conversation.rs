//! One conversation in a task. It is that of `blocking`, but where that one
//! waits in a call, this one awaits readiness and then makes the call.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use common::limits::{ACK_POLL_INTERVAL, LINGER, READ_BUDGET};
use common::{Cause, Session, log};

use crate::queues::{unacknowledged, unread};
use crate::readiness::Ready;
use crate::shared::Shared;
use crate::worker::{self, Worker};

/// The delay of a timer that never expires; a `Sleep` always has one.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The end of a wait: the stream is ready, or, with `None`, the timer has
/// expired, or shutdown was requested, which ends one wait.
type Wait<'a> = nix::Result<Option<Ready<'a>>>;

/// Starts the task that serves a client from its first byte to its last.
pub fn start(stream: AsyncFd<OwnedFd>, shared: Arc<Shared>) {
    let id = shared.accepted.add(1);
    let place = shared.clients.token();
    tokio::spawn(async move {
        let config = &shared.config;
        let mut conversation = Conversation {
            stream: &stream,
            session: config.session(id),
            timer: pin!(sleep(config.idle_timeout.unwrap_or(NEVER))),
            shutdown: pin!(shared.shutdown.wait(id)),
            remaining_input: None,
            shared: &shared,
        };
        match conversation.converse().await {
            Ok(()) => {}
            Err(errno) if is_peer_error(errno) => {}
            Err(errno) => log(
                Cause::Conversation,
                format_args!("a conversation failed: {errno}"),
            ),
        }
        // Before the stream is closed, because a client that sees that may
        // connect again at once.
        drop(place);
        drop(stream);
        shared.departed.notify_one();
    });
}

/// One client: its socket and its half of the protocol. There is one for each
/// client, even an idle one, so it holds no buffer.
struct Conversation<'a> {
    stream: &'a AsyncFd<OwnedFd>,
    session: Session,
    /// Expires `--idle-timeout` after the last request was completed. To start
    /// it again changes a number: tokio moves it when its old time has come.
    timer: Pin<&'a mut Sleep>,
    /// Completes when shutdown is requested.
    shutdown: Pin<&'a mut WaitForCancellationFutureOwned>,
    /// During the drain: how many of the bytes that had arrived when it began
    /// are still to be received.
    remaining_input: Option<u32>,
    shared: &'a Shared,
}

impl<'a> Conversation<'a> {
    async fn converse(&mut self) -> nix::Result<()> {
        let mut turn = 0;
        while self.session.wants_input() && self.remaining_input != Some(0) {
            let ready = self.readable().await?;
            self.note_drain()?;
            if self.remaining_input == Some(0) {
                break;
            }
            let mut output = Vec::new();
            let received = worker::borrow(|worker| {
                self.receive(ready, worker, &mut output)
            })?;
            if let Some(0) = received {
                // End of file, and everything before it is answered.
                return Ok(());
            }
            turn += received.unwrap_or(0);
            let mut sent = 0;
            while sent < output.len() {
                let ready = self.writable().await?;
                sent += self.send_now(ready, &output[sent..])?;
            }
            worker::give_back(output);
            if turn >= READ_BUDGET {
                turn = 0;
                yield_now().await;
            }
        }
        // In a box, so that an idle client holds no room for it.
        Box::pin(self.end()).await
    }

    /// Phase 1: waits until the kernel reports input, while the worker runs
    /// other tasks.
    fn readable(&mut self) -> impl Future<Output = Wait<'a>> {
        poll_fn(|cx| {
            let ready = self.stream.poll_read_ready(cx);
            self.poll_ready(ready, cx)
        })
    }

    /// Waits until the kernel reports room in the send buffer.
    fn writable(&mut self) -> impl Future<Output = Wait<'a>> {
        poll_fn(|cx| {
            let ready = self.stream.poll_write_ready(cx);
            self.poll_ready(ready, cx)
        })
    }

    /// Polls what else the task waits for, if its stream is not ready. Each
    /// that is pending keeps the task's waker, so the first of them wakes it.
    fn poll_ready(
        &mut self,
        ready: Poll<io::Result<Ready<'a>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Wait<'a>> {
        if let Poll::Ready(ready) = ready {
            // Fails only while the runtime shuts down, and this task with it.
            return Poll::Ready(Ok(ready.ok()));
        }
        if self.remaining_input.is_none()
            && self.shutdown.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(self.note_drain().map(|()| None));
        }
        self.timer.as_mut().poll(cx).map(|()| Ok(None))
    }

    /// Phase 2: copies what has arrived and answers it. Returns `None` if
    /// nothing has. Once the timer has expired, it answers requests that have
    /// arrived in time, and otherwise fails with ETIMEDOUT.
    fn receive(
        &mut self,
        ready: Option<Ready<'a>>,
        worker: &mut Worker,
        output: &mut Vec<u8>,
    ) -> nix::Result<Option<usize>> {
        let received = self.recv_now(ready, &mut worker.input[..])?;
        let Some(length @ 1..) = received else {
            return self.check_timer().map(|()| received);
        };
        self.remaining_input =
            self.remaining_input.map(|left| left.saturating_sub(length as u32));
        mem::swap(output, &mut worker.output);
        worker.about.counters = self.shared.counters();
        let input = &worker.input[..length];
        let completed = self.session.answer(input, &worker.about, output);
        if completed > 0 {
            self.shared.requests.add(completed);
            let timeout = self.shared.config.idle_timeout;
            self.start_timer(timeout.unwrap_or(NEVER));
        } else {
            self.check_timer()?;
        }
        Ok(received)
    }

    /// Copies what has arrived, without waiting. Returns `None` if nothing has.
    ///
    /// A short recv has drained the socket (epoll(7), "Questions and answers"),
    /// so the readiness is cleared without another recv that returns EAGAIN.
    /// EOF behind the input is not lost, because tokio never clears that
    /// (ScheduledIo::clear_readiness). An urgent byte would be: a recv ends
    /// before it (tcp(7)).
    fn recv_now(
        &self,
        ready: Option<Ready<'a>>,
        input: &mut [u8],
    ) -> nix::Result<Option<usize>> {
        loop {
            match recv(self.stream.as_raw_fd(), input, MsgFlags::empty()) {
                Ok(received) => {
                    if received < input.len() && !self.has_urgent_input() {
                        clear(ready);
                    }
                    return Ok(Some(received));
                }
                Err(Errno::EAGAIN) => {
                    self.shared.empty_calls.add(1);
                    clear(ready);
                    return Ok(None);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// True once an urgent byte was reported. That is never cleared, so from
    /// then on only EAGAIN means that the socket is drained.
    fn has_urgent_input(&self) -> bool {
        self.stream.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    /// Sends what can be sent without waiting, and returns how many bytes. A
    /// client that reads slowly is also served slowly.
    fn send_now(
        &self,
        ready: Option<Ready<'a>>,
        output: &[u8],
    ) -> nix::Result<usize> {
        // Without MSG_NOSIGNAL, a send after a reset may also raise
        // SIGPIPE, which ends a process that does not ignore it.
        match send(self.stream.as_raw_fd(), output, MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EAGAIN) => {
                clear(ready);
                self.check_timer().map(|()| 0)
            }
            Err(Errno::EINTR) => Ok(0),
            sent => sent,
        }
    }

    /// Ends the conversation so that the last replies arrive: sends a FIN, then
    /// waits for the client's. During the drain it waits only until all replies
    /// are acknowledged, and polls SIOCOUTQ for that, because epoll(7) has no
    /// event for it.
    async fn end(&mut self) -> nix::Result<()> {
        if self.is_acknowledged()? {
            return Ok(());
        }
        shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
        let until = Instant::now() + LINGER;
        self.start_timer(LINGER);
        while !self.is_acknowledged()? && Instant::now() < until {
            if self.remaining_input.is_some() {
                self.start_timer(ACK_POLL_INTERVAL);
            }
            let ready = self.readable().await?;
            let discarded = worker::borrow(|worker| {
                self.recv_now(ready, &mut worker.input[..])
            })?;
            if discarded == Some(0) {
                break;
            }
        }
        Ok(())
    }

    /// Once shutdown is requested, notes how much input has arrived by then.
    /// Later input is ignored.
    fn note_drain(&mut self) -> nix::Result<()> {
        if self.remaining_input.is_none() && self.shared.shutdown.is_requested()
        {
            // The kernel counts in an int.
            self.remaining_input = Some(unread(self.stream.get_ref())? as u32);
        }
        Ok(())
    }

    /// True during the drain once the client's kernel has acknowledged all
    /// replies. The connection is closed then, without waiting for end of file.
    fn is_acknowledged(&mut self) -> nix::Result<bool> {
        self.note_drain()?;
        let stream = self.stream.get_ref();
        Ok(self.remaining_input.is_some() && unacknowledged(stream)? == 0)
    }

    /// Fails if the timer has expired, even if nothing has polled it since.
    fn check_timer(&self) -> nix::Result<()> {
        match self.timer.deadline() <= Instant::now() {
            true => Err(Errno::ETIMEDOUT),
            false => Ok(()),
        }
    }

    fn start_timer(&mut self, timeout: Duration) {
        self.timer.as_mut().reset(Instant::now() + timeout);
    }
}

/// Clears the readiness, so that the next wait ends with the next edge. The
/// kernel reports an edge once, and tokio caches it until it is cleared; if
/// another one came meanwhile, it is not cleared.
fn clear(ready: Option<Ready<'_>>) {
    if let Some(mut ready) = ready {
        ready.clear_ready();
    }
}

/// True for errors that the peer or the network causes, and for an expired
/// timer. They are not worth logging.
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
