//! **One task per client**: the conversation of `blocking`, with an `.await`
//! where `blocking` waits in a call. A few threads run all tasks.
//!
//! # How it works
//!
//! `examples/minimal.rs` is this model alone, in idiomatic tokio.
//!
//! ```text
//!      application                         kernel
//!    worker |    polls the task: .await     |
//!           |    is pending                  |
//!        polls other tasks, until none is ready
//!           |    epoll_wait                  |
//!           |------------------------------->|  phase 1: waiting for data
//!        asleep, for all tasks at once       |  a segment arrives
//!           |<-------------------------------|
//!           |    the sockets that are ready  |
//!           |    wakes the task, polls it    |
//!           |--+                             |
//!           |  |    recv(stream)             |
//!           |  |---------------------------->|  phase 2: copying it
//!           |  |<----------------------------|  to the worker's buffer
//!           |  |    the number of bytes      |
//!           |  answers, sends, awaits more
//! ```
//!
//! The compiler turns an `async fn` into a state machine, with a state for each
//! `.await` and fields for the variables that live across it. A task is a state
//! machine that tokio schedules. Polling it runs it until an `.await` is not
//! ready. There it leaves a waker and returns, and the worker's stack is free
//! for another task, so a waiting client has no stack.
//!
//! tokio's reactor is the loop of `multiplexing-epoll`, edge-triggered. One
//! worker waits in epoll_wait for all sockets and queues the tasks of those
//! that are ready; idle workers steal from that queue. So two requests of one
//! client may be answered by different threads. The main thread only accepts
//! connections and waits for signals. tokio remembers that a socket is ready
//! until the task says that it is drained, which EAGAIN or a short recv shows.
//!
//! Scheduling is cooperative: a task is never preempted and gives way only at
//! an `.await`, so one that is always ready would keep its worker. Therefore a
//! conversation yields after 64 KiB, and tokio's cooperative budget makes it
//! yield after 128 awaits that were ready at once (tokio::task::coop). A panic
//! ends one task: tokio catches it, and the client's stream is closed.
//!
//! `src` departs from idiomatic tokio where it receives. The minimal program
//! awaits TcpStream::read, whose buffer lives across the `.await`, so that each
//! idle client holds one. This program awaits readiness (AsyncFd), then calls
//! recv(2) with the buffer of the worker, so an idle client holds none.
//! TcpStream::readable and try_read would do the same, but AsyncFd has a plain
//! descriptor, with which the policies of the other models and their code can
//! be kept: the errors of accept4, the spare descriptor, the drain.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) on it, sigaction(2), ioctl(2) (tcp(7)); for
//! datagrams recvfrom(2) and sendto(2). Through tokio: epoll_create1(2),
//! epoll_ctl(2), epoll_wait(2), eventfd(2) to wake the worker that waits in it,
//! futex(2) to wake the others, clone3(2) at the start.
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). An idle client costs
//! 1.1 KiB of memory: its task, which contains the state machine and the timer,
//! and tokio's record of its socket (`cargo xtask compare --full`, x86-64). Its
//! registration costs 184 bytes in the kernel (EP_ITEM_COST in fs/eventpoll.c,
//! on x86-64 with Linux 6.18), and fs.epoll.max_user_watches limits the
//! registrations of one user (ENOSPC). At each of these limits new connections
//! are rejected, and no other client is affected.
//!
//! A client counts until a worker has ended its conversation. So at
//! `--max-connections` a new connection may be rejected although a client has
//! disconnected already.
//!
//! As many requests are handled at a time as there are workers. A task that
//! computes for long, or makes a call that blocks, holds up its worker; if all
//! workers are held up, so is the server. All workers are created at the start;
//! if one cannot be (EAGAIN), the server does not start.
//!
//! # When to use it
//!
//! For many clients, on several cores, whose conversations have many steps: the
//! compiler keeps the state that an event loop keeps by hand. Not for handlers
//! that must call code that blocks, and not where it matters which thread does
//! what and when, because tokio decides that.
//!
//! # Compare with
//!
//! `thread-per-connection`, where the kernel keeps a stack for each client and
//! schedules the threads; `multiplexing-epoll`, whose `edge` is what tokio does
//! underneath; `loop-per-core`, where a client stays on its thread.
//!
//! # References
//!
//! - The documentation of tokio: tokio::task::coop, tokio::io::unix::AsyncFd.
//! - Asynchronous Programming in Rust (the "async book"): futures, wakers,
//!   tasks.
//! - TLPI, section 63.4 (epoll).
//! - docs/CLAIMS.md: copies-epoll-edge, edge-new-data.

mod accept;
mod acceptor;
mod conversation;
mod datagrams;
mod drain;
mod queues;
mod readiness;
mod shared;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nix::sys::signalfd::SignalFd;
use tokio::select;
use tokio::time::sleep;

use common::{Clients, Config, Model};

use acceptor::Acceptor;
use readiness::watch_signals;
use shared::Shared;
use worker::Flags;

const MODEL: Model = Model {
    name: env!("CARGO_PKG_NAME"),
    summary: env!("CARGO_PKG_DESCRIPTION"),
    clients: Clients::Many,
};

fn main() -> ExitCode {
    let (config, flags) = Config::with_flags::<Flags>(&MODEL);
    // Workers inherit which signals are blocked, so that comes first.
    common::conclude(drain::signals().and_then(|signals| {
        let runtime = worker::runtime(flags.workers())?;
        runtime.block_on(serve(config, signals))
    }))
}

async fn serve(config: Config, signals: SignalFd) -> Result<()> {
    let (listener, tcp) = common::listen(&config)?.unzip();
    let (socket, udp) = common::bind_datagrams(&config)?.unzip();
    let signals = watch_signals(signals).context("epoll_ctl")?;
    let shared = Arc::new(Shared::new(config));
    let mut datagrams = datagrams::start(socket, &shared)?;
    let mut new_clients = Acceptor::new(listener, &shared)?;
    common::announce(tcp, udp)?;

    select! {
        signal = drain::wait_for_signal(signals) => signal?,
        failure = new_clients.run() => return failure,
        ended = &mut datagrams => {
            return ended.context("the datagram task failed");
        }
    }

    // The listener is closed already: `run` owned it, and its future is
    // dropped.
    drop(new_clients);
    shared.shutdown.request();
    shared.clients.close();
    let all_have_left = async {
        shared.clients.wait().await;
        datagrams.await
    };
    select! {
        ended = all_have_left => ended.context("the datagram task failed")?,
        () = sleep(shared.config.drain_timeout) => {
            common::report_cut_off(shared.clients.len());
        }
    }
    Ok(())
}
