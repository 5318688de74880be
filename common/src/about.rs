//! What a server says of itself in INFO and HELLO.

use std::sync::OnceLock;

use nix::sys::utsname;

/// Who answers: filled in by the loop, thread or process that owns it, and
/// shown by INFO and HELLO.
#[derive(Clone, Debug)]
pub struct About {
    /// The crate's name, `multiplexing-epoll` for example.
    pub model: &'static str,
    /// The variant chosen on the command line; empty where there is one only.
    pub variant: &'static str,
    /// Process that answers, as getpid(2) tells.
    pub pid: u32,
    /// Thread that answers, as gettid(2) tells: equal to `pid` in the first.
    pub tid: u32,
    /// Which of several event loops answers, from 0; `None` where there is one
    /// only, or none.
    pub event_loop: Option<u32>,
    /// The kernel's release, as uname(2) tells; empty if it won't.
    pub kernel: &'static str,
    /// What the answering loop, thread or process has counted so far.
    pub counters: Counters,
}

/// Counts since start. Each loop, thread or process has its own, but for the
/// number of clients; tasks share them all, as atomics. Nothing is locked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Clients connected now, those of other loops, threads and processes too:
    /// that is what `--max-connections` limits.
    pub clients: u64,
    /// Connections accepted and served.
    pub accepted: u64,
    /// Acceptor turned away: no room, no descriptor, no process, no thread.
    /// They are not among the accepted.
    pub rejected: u64,
    /// Requests answered over streams.
    pub requests: u64,
    /// Calls on non-blocking sockets that found nothing: no input, no new client
    /// (EAGAIN).
    pub empty_calls: u64,
    /// Datagrams answered.
    pub datagrams: u64,
    /// Datagram replies given up because the socket's buffer was full.
    pub datagrams_dropped: u64,
}

impl About {
    /// About the calling process and thread, with nothing counted yet.
    pub fn new(model: &'static str, variant: &'static str) -> Self {
        let counters = Counters::default();
        let kernel = kernel();
        let event_loop = None;
        Self { model, variant, pid: 0, tid: 0, event_loop, kernel, counters }
            .here()
    }

    /// The same, answered by the calling process and thread from here on.
    #[must_use]
    pub fn here(self) -> Self {
        Self {
            pid: nix::unistd::getpid().as_raw().unsigned_abs(),
            tid: nix::unistd::gettid().as_raw().unsigned_abs(),
            ..self
        }
    }
}

/// Found once and kept: whoever answers may be unable to ask or allocate.
fn kernel() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| {
        utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default()
    })
}
