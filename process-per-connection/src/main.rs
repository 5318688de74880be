//! **One process for each client**: the conversation of `blocking`, line for
//! line, in a child that fork(2) makes when the client connects.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!    parent |    poll(listener, signals)     |
//!           |<-------------------------------|  a client has connected
//!           |    accept4, then fork          |
//!           |--+                             |
//!     polls |  |    recv(stream)             |
//!     again |  |---------------------------->|  nothing has arrived
//!           :  asleep                        |  phase 1: waiting for data
//!           :  :                             |  a segment arrives
//!           :  :                             |  phase 2: copying it
//!           :  |<----------------------------|  to the child's buffer
//!           :  |    the number of bytes      |
//!           :  awake: answers, sends, and asks again
//! ```
//!
//! The child is a copy of the parent at the moment of the fork: descriptors,
//! memory, where it was in the program. It closes what is the parent's (the
//! listener, or it would keep the port; the reserve) and serves; the parent
//! closes the stream, or the client would never see the end of file. A child
//! that crashes takes one client with it.
//!
//! The parent has one thread and no signal handler: its signals are blocked
//! and arrive through a descriptor, in turn with the newcomers. So no signal
//! can come between a check and a wait, and SIGCHLD is never lost: however
//! many children one signal stands for, all that have ended are reaped.
//!
//! # System calls
//!
//! fork(2), waitpid(2), kill(2), signalfd(2), poll(2), prctl(2) in the parent;
//! in a child those of `blocking`: recv(2), send(2), shutdown(2),
//! setsockopt(2), recvfrom(2), sendto(2).
//!
//! # Limits
//!
//! A process a client: about 110 KiB of page tables, kernel stack and pages
//! that were written to. The number of processes ends it (EAGAIN from fork:
//! RLIMIT_NPROC, kernel.pid_max, kernel.threads-max, the control group's
//! pids.max). The newcomer is refused then, and nobody else notices. Nothing
//! that one child keeps in memory is seen by another.
//!
//! # When to use it
//!
//! When clients must be kept apart by the kernel: other users, other limits,
//! code that may crash. And for few clients that stay: a fork costs more than
//! many requests.
//!
//! # Compare with
//!
//! `blocking`, whose conversation this is; `thread-per-connection`, where the
//! clients share one memory.

mod accept;
mod children;
mod datagrams;
mod parent;
mod stop;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    MsgFlags, Shutdown, recv, send, setsockopt, shutdown, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use common::limits::{INPUT_CHUNK, LINGER, OUTPUT_KEPT};
use common::{
    About, Admission, Cause, Clients, Config, Deadline, Model, Reserve,
    Session, notice,
};

use children::Children;
use parent::Parent;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    if let Some(listener) = &listener {
        fcntl(listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .context("O_NONBLOCK on the listener")?;
    }
    let admission = Admission::new(config, 0);
    let mut parent = Parent {
        config,
        admission,
        listener,
        reserve: Reserve::hold()?,
        signals: Some(stop::signals()?),
        children: Children::default(),
        about: About::new(MODEL.name, ""),
        paused_until: None,
        drain_until: None,
    };
    if let Some(socket) = socket {
        parent.start_datagrams(&socket).context("fork for datagrams")?;
    }
    common::announce(tcp, udp)?;

    while !parent.has_finished() {
        let (signalled, connected) = parent.wait()?;
        if signalled {
            parent.on_signal()?;
        }
        if connected {
            parent.on_connected()?;
        }
    }
    common::report_cut_off(parent.children.kill());
    Ok(())
}

/// Serves one client from its first byte to its last.
fn converse(stream: &OwnedFd, config: &Config, about: &mut About) {
    let ended = Conversation {
        stream,
        session: Session::new(about.counters.accepted, config.max_request),
        deadline: Deadline::new(config.idle_timeout, Instant::now()),
        bound: TimeVal::zero(),
    }
    .converse(about);
    match ended {
        // It left, it broke off, or its time was up: its own affair.
        Ok(())
        | Err(
            Errno::ECONNRESET
            | Errno::ENOTCONN
            | Errno::EPIPE
            | Errno::ETIMEDOUT,
        ) => {}
        Err(errno) => notice(
            Cause::Conversation,
            format_args!("a conversation failed: {}", errno.desc()),
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
}

impl Conversation<'_> {
    fn converse(mut self, about: &mut About) -> nix::Result<()> {
        let mut input = [0; INPUT_CHUNK];
        let mut output = Vec::new();
        while self.session.wants_input() {
            let received = self.receive(&mut input)?;
            if received == 0 {
                // End of file, and all that came before it is answered.
                return Ok(());
            }
            let completed =
                self.session.receive(&input[..received], about, &mut output);
            if completed > 0 {
                about.counters.requests += completed as u64;
                self.deadline.restart(Instant::now());
            }
            self.send_all(&output)?;
            output.clear();
            output.shrink_to(OUTPUT_KEPT);
        }
        self.end(&mut input)
    }

    /// Waits for data and takes it: both phases in one call.
    fn receive(&mut self, input: &mut [u8]) -> nix::Result<usize> {
        loop {
            self.bound_wait()?;
            match recv(self.stream.as_raw_fd(), input, MsgFlags::empty()) {
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
        shutdown(self.stream.as_raw_fd(), Shutdown::Write)?;
        self.deadline.end_within(LINGER, Instant::now());
        while self.receive(input)? > 0 {}
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
