//! The datagram service in the classic way: a signal handler copies the
//! datagram and sends the reply. Here it runs inside ppoll(2) only, before that
//! returns to its caller, because ppoll alone unblocks its signal.
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
//!        answers, sends, and returns:        |
//!        so does ppoll, with EINTR           |
//! ```
//!
//! A handler may use only what the interrupted code cannot be in the midst of
//! using: async-signal-safe functions (signal-safety(7)), and data that is its
//! own for the time. So this one
//!
//! - makes no calls but recvfrom, sendto and raise, which are on that page;
//! - allocates nothing and takes no lock, so it does not even complain: what
//!   went wrong is noted, and said by the loop;
//! - leaves errno as it was, which the interrupted code may be about to read;
//! - never panics: unwinding cannot leave a handler, it would end the program.
//!
//! And where it may interrupt is decided here: SIGUSR1 is blocked except inside
//! ppoll, which unblocks it and blocks it again in one step with the wait. So
//! there is no moment between a look and a wait at which a datagram is missed,
//! the loop can lend the handler what it owns, and the handler runs at most
//! once per wait, however fast datagrams arrive: the streams have their turn.
//! It answers a limited number, and raises SIGUSR1 for the next wait if there
//! are more. Where a descriptor is ready, ppoll does not look at signals, so a
//! second one without descriptors follows.
//!
//! The signal is not SIGIO, the default: that one reports here that the queue
//! of real-time signals has overflowed. Pending standard signals of one number
//! merge, so the two meanings could not be told apart. For that reason one
//! SIGUSR1 may also stand for many datagrams; and as a standard signal it
//! always finds its place.

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
    /// What is blocked during a wait: all that was, but SIGUSR1.
    blocked: SigSet,
    /// Why the handler gave up, until the loop has said so.
    failed: Option<Errno>,
    /// recvfrom is left alone until then, unless a new datagram arrives.
    pub paused_until: Option<Instant>,
}

/// What the loop lends the handler for the time of a wait.
struct Loan<'a> {
    datagrams: &'a mut Datagrams,
    about: &'a mut About,
}

/// The loan, null where there is none.
static LOAN: AtomicPtr<Loan<'_>> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_datagram(_: i32) {
    let errno = Errno::last_raw();
    let loan = LOAN.load(Ordering::SeqCst);
    // SAFETY: null, or the loop's, which is inside ppoll and does not use it
    // before that returns; and SIGUSR1 does not interrupt its own handler.
    if let Some(Loan { datagrams, about }) = unsafe { loan.as_mut() } {
        datagrams.on_readable(about);
    }
    Errno::set_raw(errno);
}

impl Datagrams {
    /// Has `socket` send SIGUSR1, and handles it. All signals that are to stay
    /// blocked are so already.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGUSR1);
        mask.thread_block().context("cannot block SIGUSR1")?;
        // No SA_RESTART: the loop shall look at what the handler left. ppoll
        // is never restarted anyway (signal(7)).
        let action = SigAction::new(
            SigHandler::Handler(on_datagram),
            SaFlags::empty(),
            SigSet::all(),
        );
        // SAFETY: the handler makes async-signal-safe calls only.
        unsafe { sigaction(Signal::SIGUSR1, &action) }
            .context("cannot handle SIGUSR1")?;
        let mut blocked =
            SigSet::thread_get_mask().context("pthread_sigmask")?;
        blocked.remove(Signal::SIGUSR1);
        signals::arm(&socket, Signal::SIGUSR1 as i32)
            .context("the datagram socket cannot send signals: fcntl")?;
        // What arrived before that has told nobody.
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

    /// Waits as ppoll does; meanwhile the handler may run, once.
    pub fn wait(
        &mut self,
        queue: &mut [PollFd<'_>],
        timeout: Option<TimeSpec>,
        about: &mut About,
    ) -> nix::Result<i32> {
        let queued = self.lend(queue, timeout, about)?;
        if queued > 0 {
            // ppoll does not look at signals if a descriptor is ready, which
            // this one may always be.
            self.give_way(about);
        }
        Ok(queued)
    }

    /// The handler's turn, if it has anything to do.
    fn give_way(&mut self, about: &mut About) {
        // EINTR if it had.
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

    /// The server stops: up to a round's worth of what is queued is answered.
    pub fn answer_queued(&mut self, about: &mut About) {
        let _ = raise(Signal::SIGUSR1);
        self.give_way(about);
    }

    /// Says what the handler could not, and has it try again in a while.
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

    /// Called by the handler: answers what has arrived, up to a round's worth.
    /// If there is more, it calls itself for the next wait.
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
