//! **Blocking I/O**: the program asks for data and is put to sleep until the
//! data is there and copied; meanwhile it can do nothing else.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!           |    recv(stream)                |
//!           |------------------------------->|  nothing has arrived
//!        asleep                              |  phase 1: waiting for data
//!           :                                |  a segment arrives
//!           :                                |  phase 2: copying it
//!           |<-------------------------------|  to the application's buffer
//!           |    the number of bytes         |
//!        awake: answers, sends, and asks again
//! ```
//!
//! One conversation at a time, from accept to close: who comes second waits
//! in the backlog, connected but not served, until the first has left. All
//! the waiting is done inside the calls that transfer: nothing else in this
//! program asks whether a socket is ready, and so it can wait for one socket
//! only. A deadline is the socket's own (SO_RCVTIMEO, SO_SNDTIMEO).
//!
//! To stop, a signal handler shuts down the socket that a call waits on, or
//! would wait on next. The call returns, whether it had begun or not: no
//! moment between a check and a wait is left in which a signal can be missed.
//!
//! # System calls
//!
//! accept4(2), recv(2), send(2), shutdown(2), setsockopt(2); for datagrams
//! recvfrom(2) and sendto(2); sigaction(2) and setitimer(2) for the stop.
//!
//! # Limits
//!
//! One client. The second one waits as long as the first one likes, up to the
//! idle timeout; 4,096 more wait in the backlog (net.core.somaxconn), and
//! after them the kernel drops connection requests.
//!
//! # When to use it
//!
//! When there is one peer, or one at a time: a tool that talks to a server, a
//! pipe between two programs. It is the simplest code there is; the next
//! models show what it takes to serve a second client.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, where one thread waits for many sockets at once;
//! `process-per-connection` and `thread-per-connection`, which keep this
//! conversation, line for line, and give each client one of its own.

mod accept;
mod datagrams;
mod stop;

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, Shutdown, SockFlag, recv, send, setsockopt, shutdown, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use common::limits::{ACCEPT_PAUSE, INPUT_CHUNK, LINGER, OUTPUT_KEPT};
use common::{
    About, Cause, Clients, Config, Deadline, Model, Reserve, Session, notice,
    refuse,
};

use accept::{accept, broke_off, is_shortage};

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::One,
};

fn main() -> ExitCode {
    let config = Config::from_command_line(&MODEL);
    common::conclude(serve(&config))
}

fn serve(config: &Config) -> Result<()> {
    stop::on_signals(config.drain_timeout)?;
    let mut about = About::new(MODEL.name, "");
    if let Some((socket, address)) = common::bind_datagrams(config)? {
        common::announce(None, Some(address))?;
        return datagrams::serve(&socket, &mut about);
    }
    let Some((listener, address)) = common::listen(config)? else {
        return Ok(());
    };
    let mut reserve = Reserve::hold()?;
    common::announce(Some(address), None)?;

    loop {
        stop::wakes(listener.as_fd());
        let accepted = accept(&listener, SockFlag::SOCK_CLOEXEC);
        if stop::requested() {
            break;
        }
        match accepted {
            Ok(stream) if reserve.retake() => {
                stop::wakes(stream.as_fd());
                about.counters.accepted += 1;
                about.counters.clients = 1;
                converse(&stream, config, &mut about);
                about.counters.clients = 0;
            }
            Ok(newcomer) => {
                refuse(newcomer);
                about.counters.refused += 1;
                if !reserve.retake() {
                    pause_accepting(Errno::EMFILE);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) if broke_off(errno) => {}
            // With the reserve's descriptor the next accept4 succeeds.
            Err(Errno::EMFILE | Errno::ENFILE) if reserve.release() => {}
            Err(errno) if is_shortage(errno) => pause_accepting(errno),
            Err(errno) => return Err(errno).context("accept4"),
        }
    }
    stop::report();
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

/// Leaves newcomers in the backlog for a moment rather than spin.
fn pause_accepting(errno: Errno) {
    notice(
        Cause::Accept,
        format_args!("cannot accept for a moment: {}", errno.desc()),
    );
    std::thread::sleep(ACCEPT_PAUSE);
}
