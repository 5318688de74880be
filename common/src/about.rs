//! The server's description of itself, shown by INFO and HELLO.

use std::sync::OnceLock;

use nix::sys::utsname;

/// The loop, thread or process that answers. Each has a value of its own.
#[derive(Clone, Debug)]
pub struct About {
    /// The crate's name, `multiplexing-epoll` for example.
    pub model: &'static str,
    /// The variant chosen on the command line; empty if there is only one.
    pub variant: &'static str,
    /// The process that answers (getpid(2)).
    pub pid: u32,
    /// The thread that answers (gettid(2)); equal to `pid` in the first thread.
    pub tid: u32,
    /// The event loop that answers, from 0; `None` if there are not several.
    pub event_loop: Option<u32>,
    /// The kernel's release (uname(2)); empty if that fails.
    pub kernel: &'static str,
    /// The counts of the answering loop, thread or process.
    pub counters: Counters,
}

/// Counts since the start. Each loop, thread or process has its own, except for
/// the number of clients. Tasks share all of them as atomics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Clients connected now, including those of other loops, threads and
    /// processes. `--max-connections` limits this number.
    pub clients: u64,
    /// Connections accepted and served.
    pub accepted: u64,
    /// Connections rejected for lack of room, of a descriptor, of a process or
    /// of a thread. They are not counted as accepted.
    pub rejected: u64,
    /// Requests answered over streams.
    pub requests: u64,
    /// Calls on non-blocking sockets that returned EAGAIN.
    pub empty_calls: u64,
    /// Datagrams answered.
    pub datagrams: u64,
    /// Datagram replies dropped because the socket's buffer was full.
    pub datagrams_dropped: u64,
}

impl About {
    /// Describes the calling process and thread, with all counts at 0.
    pub fn new(model: &'static str, variant: &'static str) -> Self {
        let counters = Counters::default();
        let kernel = kernel();
        let event_loop = None;
        Self { model, variant, pid: 0, tid: 0, event_loop, kernel, counters }
            .here()
    }

    /// Changes the process and thread to the calling ones, after a fork or in a
    /// new thread.
    #[must_use]
    pub fn here(self) -> Self {
        Self {
            pid: nix::unistd::getpid().as_raw().unsigned_abs(),
            tid: nix::unistd::gettid().as_raw().unsigned_abs(),
            ..self
        }
    }
}

/// Asks once and keeps the answer, because a signal handler can't ask.
fn kernel() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| {
        utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default()
    })
}
