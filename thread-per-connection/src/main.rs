//! **One thread for each client**: the conversation of `blocking`, line for
//! line, and as many of them at a time as there are threads.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!      main |    accept4(listener)           |
//!           |<-------------------------------|  a client has connected
//!           |    pthread_create              |
//!           |--+                             |
//!           |  |    recv(stream)             |
//!           |  |---------------------------->|  nothing has arrived
//!           |  asleep                        |  phase 1: waiting for data
//!           |  :                             |  a segment arrives
//!           |  :                             |  phase 2: copying it
//!           |  |<----------------------------|  to the thread's buffer
//!           |  |    the number of bytes      |
//!           |  awake: answers, sends, and asks again
//! ```
//!
//! The scheduler does what an event loop would do: it knows which thread has
//! something to do. A thread costs less than a process (no page tables, no
//! descriptor table), shares all memory with the others, and is counted,
//! joined and torn down by hand: the registry knows every stream, so that a
//! stop reaches those who wait, and a newcomer whose thread could not be
//! created can still be told so.
//!
//! # System calls
//!
//! clone3(2), through pthread_create(3), mmap(2) for its stack; otherwise
//! those of `blocking`: accept4(2), recv(2), send(2), shutdown(2),
//! setsockopt(2), recvfrom(2), sendto(2), sigaction(2).
//!
//! # Limits
//!
//! A descriptor, a thread and 64 KiB of address space a client, of which it
//! touches about 12 KiB, and 10 KiB in the kernel for the thread. First comes
//! the limit of open files (EMFILE), then that of threads (EAGAIN from
//! pthread_create: RLIMIT_NPROC, kernel.threads-max, kernel.pid_max, the
//! control group's pids.max) or of mappings (vm.max_map_count, two a thread).
//! Whatever it is, the newcomer is refused and nobody else.
//!
//! # When to use it
//!
//! Up to some thousand clients that keep a processor busy, or whose handling
//! must call code that waits. Idle clients are cheap to schedule and dear to
//! hold.
//!
//! # Compare with
//!
//! `process-per-connection`, where the kernel keeps the clients apart;
//! `blocking`, which is this program with one thread; `multiplexing-epoll`,
//! where one thread does it all.

mod accept;
mod datagrams;
mod registry;
mod stop;
mod thread;

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, Shutdown, SockFlag, recv, send, setsockopt, shutdown, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use common::limits::{ACCEPT_PAUSE, INPUT_CHUNK, LINGER, OUTPUT_KEPT};
use common::{
    About, Admission, Cause, Clients, Config, Deadline, Model, Reserve,
    Session, notice, refuse,
};

use accept::{accept, broke_off, is_shortage};
use registry::Registry;

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
    let mut reserve = Reserve::hold()?;
    let admission = Admission::new(config, 1);
    stop::on_signals(listener.as_ref(), socket.as_ref())?;
    let mut about = About::new(MODEL.name, "");
    let datagrams = socket
        .map(|socket| datagrams::start(socket, about.clone()))
        .transpose()?;
    let registry = Arc::new(Registry::default());
    common::announce(tcp, udp)?;

    while let Some(listener) = &listener {
        let accepted = accept(listener, SockFlag::SOCK_CLOEXEC);
        if stop::requested() {
            break;
        }
        match accepted {
            Ok(stream)
                if reserve.retake() && admission.admits(registry.clients()) =>
            {
                welcome(stream, config, &registry, &mut about);
            }
            Ok(newcomer) => {
                refuse(newcomer);
                about.counters.refused += 1;
                if !reserve.retake() {
                    pause_accepting(Errno::EMFILE, &registry);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) if broke_off(errno) => {}
            // With the reserve's descriptor the next accept4 succeeds.
            Err(Errno::EMFILE | Errno::ENFILE) if reserve.release() => {}
            Err(errno) if is_shortage(errno) => {
                pause_accepting(errno, &registry);
            }
            Err(errno) => return Err(errno).context("accept4"),
        }
    }
    drop(listener);
    registry.drain(config.drain_timeout);
    datagrams.map_or(Ok(()), datagrams::join)
}

/// Gives a newcomer a thread of its own, or tells it that there is none.
fn welcome(
    stream: OwnedFd,
    config: &Config,
    registry: &Arc<Registry>,
    about: &mut About,
) {
    about.counters.accepted += 1;
    let id = about.counters.accepted;
    let stream = Arc::new(stream);
    about.counters.clients = registry.enter(id, &stream) as u64;
    let created = thread::create({
        let (stream, config) = (Arc::clone(&stream), config.clone());
        let (registry, about) = (Arc::clone(registry), about.clone());
        Box::new(move || {
            converse(&stream, &config, &mut about.here());
            drop(stream);
            registry.leave(id);
        })
    });
    if let Err(errno) = created {
        notice(
            Cause::Spawn,
            format_args!("cannot create a thread: {}", errno.desc()),
        );
        registry.leave(id);
        refuse(stream);
        about.counters.refused += 1;
    }
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
fn pause_accepting(errno: Errno, registry: &Registry) {
    notice(
        Cause::Accept,
        format_args!("cannot accept for a moment: {}", errno.desc()),
    );
    registry.wait_for_room(ACCEPT_PAUSE);
}
