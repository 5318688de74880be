//! The datagram service in the classic way: a signal handler receives the
//! datagram and sends the reply. Here the handler runs only inside ppoll(2),
//! before that returns, because only ppoll unblocks its signal.
//!
//! ```text
//!      application                         kernel
//!           |    ppoll(SIGUSR1 unblocked)    |
//!           |------------------------------->|  nothing has arrived
//!        asleep                              |  phase 1: waiting for data
//!           :                                |  a datagram arrives: SIGUSR1
//!           |<-------------------------------|
//!        on_datagram                         |
//!           |    recvfrom(socket)            |
//!           |------------------------------->|  phase 2: copying it
//!           |<-------------------------------|
//!        answers, sends, and returns;        |
//!        then ppoll fails with EINTR         |
//! ```
//!
//! A handler may interrupt any code, so it may call only async-signal-safe
//! functions (signal-safety(7)), and use only data that the interrupted code
//! does not use at that moment. This handler
//!
//! - calls only recvfrom, sendto and raise, which are on that page;
//! - allocates nothing and takes no lock, so it does not log: it stores an
//!   error, and the loop logs it;
//! - restores errno, which the interrupted code may be about to read;
//! - never panics, because unwinding out of a handler would end the program.
//!
//! SIGUSR1 is blocked except inside ppoll, which unblocks it and blocks it
//! again in one step with the wait. So no datagram is missed between a check
//! and a wait, and the loop can lend its data to the handler meanwhile. The
//! handler runs at most once per wait, however fast datagrams arrive, so
//! streams get their turn. It answers a limited number, and raises SIGUSR1 for
//! the next wait if more may be left. If a descriptor is ready, ppoll does not
//! check signals, so a second ppoll, without descriptors, follows.
//!
//! The signal is not SIGIO, the default, because here SIGIO reports that the
//! queue of real-time signals has overflowed. Pending standard signals of one
//! number merge, so the two meanings could not be distinguished. For the same
//! reason, one SIGUSR1 may stand for many datagrams. As a standard signal it
//! requires no room in the queue.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, ppoll};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction,
};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};
use nix::sys::time::TimeSpec;

use common::limits::{
    ACCEPT_BACKOFF, DATAGRAMS_PER_ROUND, MAX_DATAGRAM, MAX_DATAGRAM_REPLY,
};
use common::{About, Cause, answer_datagram, log};

use crate::signals;

/// A datagram socket and the buffers for one datagram and its reply.
pub struct Datagrams {
    socket: OwnedFd,
    input: Box<[u8]>,
    output: Box<[u8]>,
    /// The signals that are blocked during a wait: all as before, except
    /// SIGUSR1.
    blocked: SigSet,
    /// The error of recvfrom in the handler, until the loop has logged it.
    failed: Option<Errno>,
    /// recvfrom is not called until then, unless a new datagram arrives.
    pub paused_until: Option<Instant>,
}

/// The data that the loop lends to the handler during a wait.
struct Loan<'a> {
    datagrams: &'a mut Datagrams,
    about: &'a mut About,
}

/// The loan; null outside a wait.
static LOAN: AtomicPtr<Loan<'_>> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_datagram(_: i32) {
    let errno = Errno::last_raw();
    let loan = LOAN.load(Ordering::SeqCst);
    // SAFETY: the pointer is null or the loop's loan. The loop is inside ppoll
    // then, and does not use the loan before ppoll returns. SIGUSR1 does not
    // interrupt its own handler.
    if let Some(Loan { datagrams, about }) = unsafe { loan.as_mut() } {
        datagrams.on_readable(about);
    }
    Errno::set_raw(errno);
}

impl Datagrams {
    /// Installs the handler, and has the kernel send SIGUSR1 for `socket`. It
    /// is called after all signals that must stay blocked during a wait have
    /// been blocked.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGUSR1);
        mask.thread_block().context("cannot block SIGUSR1")?;
        // ppoll is never restarted, with or without SA_RESTART (signal(7)), so
        // the loop always goes on after the handler, and checks `failed`.
        let action = SigAction::new(
            SigHandler::Handler(on_datagram),
            SaFlags::empty(),
            SigSet::all(),
        );
        // SAFETY: the handler calls only async-signal-safe functions.
        unsafe { sigaction(Signal::SIGUSR1, &action) }
            .context("cannot handle SIGUSR1")?;
        let mut blocked =
            SigSet::thread_get_mask().context("pthread_sigmask")?;
        blocked.remove(Signal::SIGUSR1);
        signals::arm(&socket, Signal::SIGUSR1 as i32)
            .context("cannot make the datagram socket send signals: fcntl")?;
        // Datagrams that arrived before that have raised no signal.
        raise(Signal::SIGUSR1).context("raise")?;
        let input = vec![0; MAX_DATAGRAM].into_boxed_slice();
        let output = vec![0; MAX_DATAGRAM_REPLY].into_boxed_slice();
        Ok(Self {
            socket,
            input,
            output,
            blocked,
            failed: None,
            paused_until: None,
        })
    }

    /// Waits as ppoll does. Meanwhile the handler may run, once.
    pub fn wait(
        &mut self,
        queue: &mut [PollFd<'_>],
        timeout: Option<TimeSpec>,
        about: &mut About,
    ) -> nix::Result<i32> {
        let queued = self.lend(queue, timeout, about)?;
        if queued > 0 {
            // ppoll does not check signals if a descriptor is ready, so a busy
            // queue would keep the handler from running.
            self.give_way(about);
        }
        Ok(queued)
    }

    /// Runs the handler if its signal is pending, and does not wait.
    fn give_way(&mut self, about: &mut About) {
        // EINTR means that the handler has run.
        let _ = self.lend(&mut [], Some(TimeSpec::new(0, 0)), about);
    }

    fn lend(
        &mut self,
        queue: &mut [PollFd<'_>],
        timeout: Option<TimeSpec>,
        about: &mut About,
    ) -> nix::Result<i32> {
        let blocked = self.blocked;
        let mut loan = Loan { datagrams: self, about };
        LOAN.store((&raw mut loan).cast(), Ordering::SeqCst);
        let queued = ppoll(queue, timeout, Some(blocked));
        LOAN.store(ptr::null_mut(), Ordering::SeqCst);
        queued
    }

    /// Answers datagrams that have arrived, up to a limit per round, for the
    /// drain.
    pub fn answer_queued(&mut self, about: &mut About) {
        let _ = raise(Signal::SIGUSR1);
        self.give_way(about);
    }

    /// Logs an error of the handler, and makes it try again after the back-off.
    pub fn resume(&mut self, now: Instant) {
        if let Some(errno) = self.failed.take() {
            log(Cause::Datagram, format_args!("recvfrom: {errno}"));
            self.paused_until = Some(now + ACCEPT_BACKOFF);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            let _ = raise(Signal::SIGUSR1);
        }
    }

    /// Called by the handler: answers what has arrived, up to a limit per
    /// round. If more may be left, raises SIGUSR1 again, for the next wait.
    fn on_readable(&mut self, about: &mut About) {
        for _ in 0..DATAGRAMS_PER_ROUND {
            match self.answer(about) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    about.counters.empty_calls += 1;
                    return;
                }
                Err(errno) => {
                    self.failed = Some(errno);
                    return;
                }
            }
        }
        let _ = raise(Signal::SIGUSR1);
    }

    /// Receives one datagram and answers it.
    fn answer(&mut self, about: &mut About) -> nix::Result<()> {
        let socket = self.socket.as_raw_fd();
        let (received, client) =
            recvfrom::<SockaddrStorage>(socket, &mut self.input)?;
        let Some(client) = client else { return Ok(()) };
        about.counters.datagrams += 1;
        let length =
            answer_datagram(&self.input[..received], about, &mut self.output);
        if length == 0 {
            return Ok(());
        }
        // Never waits to send a reply: a client must be able to lose one
        // anyway.
        let flags = MsgFlags::MSG_DONTWAIT;
        if sendto(socket, &self.output[..length], &client, flags).is_err() {
            about.counters.datagrams_dropped += 1;
        }
        Ok(())
    }
}
