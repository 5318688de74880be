//! One conversation in calls that wait: the unit of work of every model that
//! gives a client a flow of control of its own.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, Shutdown, getsockopt, recv, send, setsockopt, shutdown, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use common::limits::{
    DELIVERY_LOOK, INPUT_CHUNK_ALONE, LINGER, OUTPUT_KEPT_ALONE,
};
use common::{About, Cause, Config, Deadline, Session, notice};

use crate::queues::{unacknowledged, unread};
use crate::stop;

/// Serves one client from its first byte to its last.
pub fn converse(stream: &OwnedFd, config: &Config, about: &mut About) {
    let conversation = Conversation {
        stream,
        session: Session::new(about.counters.accepted, config.max_request),
        deadline: Deadline::new(config.idle_timeout, Instant::now()),
        bound: TimeVal::zero(),
        left: None,
    };
    match conversation.converse(about) {
        Ok(()) => {}
        Err(errno) if is_the_clients(errno) => {}
        Err(errno) => notice(
            Cause::Conversation,
            format_args!("a conversation failed: {errno}"),
        ),
    }
}

/// One client: its socket and its half of the protocol.
struct Conversation<'a> {
    stream: &'a OwnedFd,
    session: Session,
    deadline: Deadline,
    /// How long the stream's calls may wait, as the kernel was told last.
    bound: TimeVal,
    /// After a stop: bytes that had arrived by then and are still to take.
    left: Option<usize>,
}

impl Conversation<'_> {
    fn converse(mut self, about: &mut About) -> nix::Result<()> {
        let mut input = [0; INPUT_CHUNK_ALONE];
        let mut output = Vec::new();
        while self.session.wants_input() {
            if self.is_stopped()? {
                return self.see_off();
            }
            let received = self.receive(&mut input)?;
            if received == 0 && !stop::requested() {
                // End of file, and all that came before it is answered.
                return Ok(());
            }
            self.left = self.left.map(|left| left.saturating_sub(received));
            let completed =
                self.session.receive(&input[..received], about, &mut output);
            if completed > 0 {
                about.counters.requests += completed as u64;
                self.deadline.restart(Instant::now());
            } else if self.deadline.has_passed(Instant::now()) {
                return Err(Errno::ETIMEDOUT);
            }
            self.send_all(&output)?;
            output.clear();
            output.shrink_to(OUTPUT_KEPT_ALONE);
        }
        self.end(&mut input)
    }

    /// Waits for data and takes it: both phases in one call. Once the time is
    /// up it takes what is there, which may have come in time, and waits no
    /// more.
    fn receive(&mut self, input: &mut [u8]) -> nix::Result<usize> {
        loop {
            let flags = match self.bound_wait() {
                Ok(()) => MsgFlags::empty(),
                Err(Errno::ETIMEDOUT) => MsgFlags::MSG_DONTWAIT,
                Err(errno) => return Err(errno),
            };
            match recv(self.stream.as_raw_fd(), input, flags) {
                Err(Errno::EAGAIN) if flags == MsgFlags::MSG_DONTWAIT => {
                    return Err(Errno::ETIMEDOUT);
                }
                // A signal, or the bound: the deadline knows what is left.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                received => return received,
            }
        }
    }

    /// Sends everything. The kernel takes what fits its buffer, and waits for
    /// the client to read: the client's slowness is its own bound.
    fn send_all(&mut self, output: &[u8]) -> nix::Result<()> {
        let mut sent = 0;
        while sent < output.len() {
            self.bound_wait()?;
            let stream = self.stream.as_raw_fd();
            match send(stream, &output[sent..], MsgFlags::MSG_NOSIGNAL) {
                Ok(accepted) => sent += accepted,
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Ends the conversation so that the last replies arrive: says that no
    /// more will come, then waits for the client to say the same.
    fn end(&mut self, input: &mut [u8]) -> nix::Result<()> {
        if !stop::spares(self.stream.as_fd()) {
            return self.see_off();
        }
        shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
        self.deadline.end_within(LINGER, Instant::now());
        let is_late = |deadline: &Deadline| deadline.has_passed(Instant::now());
        while !is_late(&self.deadline) && self.receive(input)? > 0 {}
        Ok(())
    }

    /// True when a stop was asked for and what had arrived by then is taken.
    /// A client that goes on sending is not listened to any more.
    fn is_stopped(&mut self) -> nix::Result<bool> {
        if self.left.is_none() && stop::requested() {
            self.left = Some(unread(self.stream)?);
        }
        Ok(self.left == Some(0))
    }

    /// Ends a conversation that a stop has shut down. Its receiving side is
    /// closed, so the client's end of file cannot be seen; and once we said
    /// that no more will come, the kernel would answer anything the client
    /// still sends with a reset, which destroys the replies on their way. So
    /// it waits until they have arrived, looking now and then, for nothing
    /// wakes a call at that moment.
    fn see_off(&mut self) -> nix::Result<()> {
        while unacknowledged(self.stream)? > 0 {
            // A reset connection acknowledges nothing any more.
            match getsockopt(self.stream, sockopt::SocketError)? {
                0 => {}
                error => return Err(Errno::from_raw(error)),
            }
            if self.deadline.has_passed(Instant::now()) {
                return Err(Errno::ETIMEDOUT);
            }
            std::thread::sleep(DELIVERY_LOOK);
        }
        Ok(())
    }

    /// Lets the next call wait until the deadline and no longer: it fails with
    /// EAGAIN then. Rounded up, so that a busy client's bound stays the same
    /// and costs no system call.
    fn bound_wait(&mut self) -> nix::Result<()> {
        const STEP_MS: i64 = 10;
        let Some(left) = self.deadline.remaining(Instant::now()) else {
            return Ok(());
        };
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let steps = left.as_millis() as i64 / STEP_MS + 1;
        let bound = TimeVal::milliseconds(steps * STEP_MS);
        if bound != self.bound {
            setsockopt(self.stream, sockopt::ReceiveTimeout, &bound)?;
            setsockopt(self.stream, sockopt::SendTimeout, &bound)?;
            self.bound = bound;
        }
        Ok(())
    }
}

/// True where the client left, broke off, was lost, or ran out of time: its
/// own affair, and nothing to report.
fn is_the_clients(errno: Errno) -> bool {
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
