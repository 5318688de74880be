//! **One task for each client**: the conversation of `blocking`, with an
//! `.await` where that waits in a call, and a few threads that run whichever
//! of them can go on.
//!
//! # How it works
//!
//! ```text
//!      application                         kernel
//!    worker |    polls the task              |
//!           |--+                             |
//!           |  |    recv(stream)             |
//!           |  |---------------------------->|  nothing has arrived: EAGAIN
//!           |<-+    .await: not yet          |
//!        polls other tasks, then has none that can go on
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
//!           |  answers, sends, and awaits more
//! ```
//!
//! A task is what the compiler makes of an `async fn`: a state machine, with a
//! state for each `.await` and room for the variables that live across it. To
//! poll it is to run it from one `.await` to the next that is not ready; there
//! it leaves a waker and returns, and the worker's stack is free for another
//! task. So a client that waits costs no stack, and no buffer: the workers
//! lend theirs to whom they poll.
//!
//! Underneath is the loop of `multiplexing-epoll`, by edges: one worker waits
//! in epoll_wait for all, and what it finds ready it puts on a queue, from
//! which the others steal. The next request of a client may be answered by
//! another thread. The main thread runs one thing only: it takes new clients and
//! waits for signals.
//!
//! Nothing interrupts a task: only at an `.await` does another one have its
//! turn, and one that is always ready would keep its worker. So a conversation
//! gives way by itself after 64 KiB, and tokio takes its turn away after 128
//! waits that were none (tokio::task::coop). A panic ends one task: tokio
//! catches it, and the client's stream is closed.
//!
//! # System calls
//!
//! fcntl(2) (O_NONBLOCK), accept4(2), recv(2), send(2), shutdown(2),
//! signalfd(2) and read(2) of it, ioctl(2) (tcp(7)); for datagrams recvfrom(2)
//! and sendto(2). Through tokio: epoll_create1(2), epoll_ctl(2), epoll_wait(2),
//! eventfd(2) to wake the worker that waits in it, futex(2) to wake the others,
//! clone3(2) at start.
//!
//! # Limits
//!
//! One descriptor per client (EMFILE at RLIMIT_NOFILE). An idle client costs
//! 1.6 KiB of memory for its state machine, timer and stop token, and for what
//! tokio knows of its socket (`cargo xtask memory task-per-connection`,
//! x86-64), and its place in epoll's set 184 bytes in the kernel (EP_ITEM_COST
//! in fs/eventpoll.c, on x86-64 with Linux 6.18), up to
//! fs.epoll.max_user_watches (ENOSPC). At each of these limits new
//! connections are rejected, and no other client is affected.
//!
//! The places are counted by the workers that serve them. At
//! `--max-connections` a new client may be refused though another worker is
//! about to notice that a client has left.
//!
//! As many requests at a time as there are workers: a task that computes for
//! long, or calls what waits, stops a worker, and with all of them the server.
//! Workers are made at start and never later: where one is refused (EAGAIN),
//! the server does not start.
//!
//! # When to use it
//!
//! For many clients, on several cores, whose conversations have many steps: an
//! event loop would keep each step's state by hand, here the compiler does.
//! Not for handlers that must call code that waits, and not where it matters
//! which thread does what and when: that is tokio's to decide.
//!
//! # Compare with
//!
//! `thread-per-connection`, where the kernel keeps a stack for each client and
//! picks who runs; `multiplexing-epoll`, edge-triggered, which is what tokio
//! does underneath; `loop-per-core`, where a client stays with its thread.

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

use anyhow::{Context as _, Result, bail};
use nix::sys::signalfd::SignalFd;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

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
    let shutdown = CancellationToken::new();
    let shared = Arc::new(Shared::new(config));
    let mut datagrams = datagrams::start(socket, &shared, &shutdown)?;
    let mut new_clients = Acceptor::new(listener, &shared, &shutdown)?;
    common::announce(tcp, udp)?;

    select! {
        signal = drain::wait_for_signal(&signals) => signal?,
        failure = new_clients.run() => return failure,
        ended = &mut datagrams => {
            return ended.context("the task for datagrams");
        }
    }

    drop(new_clients);
    shutdown.cancel();
    shared.clients.close();
    let all_have_left = async {
        shared.clients.wait().await;
        datagrams.await
    };
    select! {
        ended = all_have_left => ended.context("the task for datagrams")?,
        () = sleep(shared.config.drain_timeout) => {
            common::report_cut_off(shared.clients.len());
        }
        signal = drain::wait_for_signal(&signals) => {
            signal?;
            bail!("stopped by a second signal");
        }
    }
    Ok(())
}
