//! **Asynchronous I/O**: a program submits operations, each with the buffer for
//! its bytes, and collects completions. A completion reports that the data has
//! already been copied.
//!
//! # How it works
//!
//! `examples/minimal_io_uring.rs` and `examples/minimal_posix_aio.rs` are the
//! two variants of this model alone. This file only chooses one; read on in
//! `uring.rs` or `posix_aio.rs`.
//!
//! ```text
//!      application                         kernel or helper thread
//!           |    submit: receive to a buffer |
//!           |------------------------------->|  nothing has arrived
//!           |    wait for completions        |
//!        asleep, for all operations at once  |  phase 1: waiting for data
//!           :                                |  a segment arrives
//!           :                                |  phase 2: copying it, to the
//!           :                                |  operation's buffer
//!           |<-------------------------------|
//!           |    a completion: the operation |
//!           |    and the number of bytes     |
//!        answers, submits a send, and waits again
//! ```
//!
//! POSIX calls an I/O operation synchronous if it blocks the thread that
//! requests it until it is complete, and asynchronous if it does not (POSIX.1,
//! Base Definitions, chapter 3). By this definition all other models here are
//! synchronous: the request is recv(2), which returns after the copy. Here the
//! request is an entry in a queue or a call that returns at once, and the copy
//! is made later.
//!
//! Multiplexing and signals report readiness: a recv(2) now would not wait.
//! Asynchronous I/O reports completion: the receive has been carried out. An
//! event loop that dispatches readiness is called a reactor, and one that
//! dispatches completions a proactor.
//!
//! Both variants of this proactor follow three rules:
//!
//! - An operation in flight owns its buffer. The program neither reads, changes
//!   nor frees it before the completion.
//! - Cancelling an operation is only a request. The operation may have been
//!   carried out by then, so its completion is awaited in any case.
//! - A connection is closed only when none of its operations is in flight.
//!
//! The variants differ in who carries out the operations. Each is a chapter of
//! its own:
//!
//! - `io-uring`, in `src/uring.rs`: the kernel, on the program's only thread.
//!   One system call per round submits, waits, copies and returns completions.
//! - `posix-aio`, in `src/posix_aio.rs`: threads of the C library, one per
//!   operation in flight. Each blocks in read(2) and copies, while the main
//!   thread may compute. A signal reports the completion.
//!
//! Linux native AIO, io_submit(2), is not here, because on a socket it is
//! synchronous: io_submit itself waits for the data (seen on Linux 6.18).
//!
//! # System calls
//!
//! Both: shutdown(2) and ioctl(2) (tcp(7)).
//!
//! `io-uring`: io_uring_setup(2), io_uring_register(2), and io_uring_enter(2)
//! for all operations; the rest is in `uring.rs`.
//!
//! `posix-aio`: aio_read(3), aio_write(3), aio_error(3), aio_return(3),
//! sigtimedwait(2), accept4(2); the rest is in `posix_aio.rs`.
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). One thread handles the
//! completions: a request that takes long delays all the others. `io-uring`
//! requires Linux 6.1, for IORING_SETUP_DEFER_TASKRUN (io_uring_setup(2)), and
//! permission to use io_uring. `posix-aio` requires 64-bit glibc and one thread
//! per client. A variant that this system can't run exits with code 77.
//!
//! # When to use it
//!
//! `io-uring` where many clients are busy at the same time: one system call
//! serves them all, in place of two per client. With few busy clients it gains
//! nothing over epoll, and its rules are harder to keep. `posix-aio` to see why
//! it is not used for sockets.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, which also waits for all clients in one call, but then
//! makes a recv(2) for each socket that is ready; `signal-driven`, where a
//! signal reports that data can be copied, not that it has been;
//! `thread-per-connection`, which is what `posix-aio` hides.
//!
//! # References
//!
//! - UNP, section 6.2: the five models of I/O, and POSIX's definitions.
//! - TLPI, section 63.1: an overview of the alternatives to blocking I/O.
//! - D. Schmidt et al., Pattern-Oriented Software Architecture, vol. 2:
//!   Reactor and Proactor.
//! - docs/CLAIMS.md: no-async-network-io, sigio-and-aio.

mod accept;
mod connection;
mod posix_aio;
mod queues;
mod server;
mod uring;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use common::{Clients, Config, Model};

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    common::conclude(serve(&config, flags.engine))
}

fn serve(config: &Config, engine: Engine) -> Result<()> {
    match engine {
        Engine::IoUring => uring::serve(config),
        Engine::PosixAio => posix_aio::serve(config),
    }
}

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Flags {
    /// Engine that carries out the operations.
    #[arg(long, value_enum, default_value_t = Engine::IoUring)]
    engine: Engine,
}

/// The engine that carries out the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The kernel.
    IoUring,
    /// Threads of the C library.
    PosixAio,
}
