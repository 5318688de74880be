//! Graceful shutdown of a program whose tasks wait for readiness: skip it on a
//! first read. The signals are read from a descriptor, and cancellation tokens
//! notify all tasks.

use std::array;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction,
};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Turns SIGTERM and SIGINT into a descriptor that is waited for like a socket.
/// It must be called before the workers are created: they inherit the signal
/// mask, and the kernel delivers a signal to any thread that does not block it.
pub fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd")
}

/// Reads the next pending signal, if there is one.
fn next(signals: &SignalFd) -> Result<Option<siginfo>> {
    loop {
        match signals.read_signal() {
            Err(Errno::EINTR) => {}
            signal => return signal.context("signalfd"),
        }
    }
}

/// Waits until shutdown is requested. This reads a signalfd, as the event loops
/// do; tokio::signal would install a handler and use the self-pipe trick.
pub async fn wait_for_signal(signals: AsyncFd<SignalFd>) -> Result<()> {
    loop {
        let mut ready = signals.readable().await?;
        match next(ready.get_inner())? {
            Some(_signal) => return end_at_second_signal(),
            None => ready.clear_ready(),
        }
    }
}

/// From now on a signal ends the process at once. It has a handler, because a
/// worker reads the signalfd, and all workers may be held up by requests that
/// take long.
fn end_at_second_signal() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let action = SigAction::new(
            SigHandler::Handler(on_second_signal),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler makes async-signal-safe calls only.
        unsafe { sigaction(signal, &action) }
            .with_context(|| format!("cannot handle {signal}"))?;
        signals.add(signal);
    }
    signals.thread_unblock().context("cannot unblock signals")
}

extern "C" fn on_second_signal(_: i32) {
    // SAFETY: _exit is async-signal-safe and does not return.
    unsafe { libc::_exit(1) }
}

/// The number of tokens that notify tasks of the shutdown. Each wait locks its
/// token: workers would contend for a single one, and a token for each client
/// would cost an idle one 136 bytes.
const TOKENS: usize = 64;

/// The request for shutdown.
pub struct Shutdown {
    is_requested: AtomicBool,
    tokens: [CancellationToken; TOKENS],
}

impl Shutdown {
    pub fn new() -> Self {
        Self {
            is_requested: AtomicBool::new(false),
            tokens: array::from_fn(|_| CancellationToken::new()),
        }
    }

    pub fn request(&self) {
        self.is_requested.store(true, Ordering::Relaxed);
        for token in &self.tokens {
            token.cancel();
        }
    }

    pub fn is_requested(&self) -> bool {
        self.is_requested.load(Ordering::Relaxed)
    }

    /// Completes when shutdown is requested. The number of the client, 0 for
    /// none, chooses the token.
    pub fn wait(&self, id: u64) -> WaitForCancellationFutureOwned {
        let token = &self.tokens[id as usize % TOKENS];
        token.clone().cancelled_owned()
    }
}
