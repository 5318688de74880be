//! Lack of threads, queued signals or memory, most of which glibc does not
//! report: skip it on a first read.
//!
//! - Queued signals: each operation in flight may need one for its completion,
//!   and one more for a SIGPIPE, which its thread blocks. So the client limit
//!   is half of what RLIMIT_SIGPENDING leaves at the start. That limit is
//!   shared by all processes of the user. If the others use it up later, a
//!   completion has no signal, and glibc writes EAGAIN over its result
//!   (sysdeps/pthread/aio_notify.c): the number of bytes is lost, although they
//!   have left the socket. A scan of all operations in flight, once a second,
//!   finds such a completion and ends that conversation only.
//! - Threads: RLIMIT_NPROC, kernel.threads-max, kernel.pid_max, and
//!   vm.max_map_count, with two mappings per thread. The lowest of all these is
//!   the client limit. Once glibc has one thread, it does not report that it
//!   can't create another, so the server counts its threads, and rejects the
//!   new clients that would have none. If the limit is reached later, a
//!   connected client waits until a thread can be created, which is tried once
//!   a second, or until another client's operation is complete.

use std::time::Duration;

use slotmap::DefaultKey;

use common::{Cause, log};

use super::{PosixAio, room};

/// How often the operations in flight are scanned for one whose signal was
/// lost.
const SCAN_PERIOD: Duration = Duration::from_secs(1);

/// How long glibc may take to create a thread before the scan acts: longer than
/// the time from one operation of a client to its next.
const THREAD_CHECK_DELAY: Duration = Duration::from_millis(100);

impl PosixAio<'_> {
    /// Rejects the new connections for which no thread can be created. glibc
    /// does not report that: their reads would wait for a thread of another
    /// client, or would use an idle one that its client needs. So only the
    /// number of threads counts, not which of them does what.
    pub fn require_threads(&mut self, mut new_clients: Vec<DefaultKey>) {
        // One of them is the main thread.
        let wanted = self.clients.len() + 1;
        let missing = wanted.saturating_sub(self.threads.count());
        let missing = missing.min(new_clients.len());
        if missing > 0 {
            let check = self.server.now + THREAD_CHECK_DELAY;
            self.next_scan = self.next_scan.min(check);
        }
        let excess = missing - room::creatable_threads(missing);
        for key in new_clients.drain(new_clients.len() - excess..) {
            self.reject(key, "no thread (ulimit -u, ulimit -v)");
        }
    }

    /// True if there is a thread per client, besides the main thread.
    pub fn has_threads(&self) -> bool {
        self.threads.count() > self.clients.len()
    }

    /// Once a second, finds operations whose completion signal was lost, and
    /// starts operations that could not be started. If a thread is still
    /// missing, cancels the operations that no thread has begun: each completes
    /// with ECANCELED and is started again, and glibc then tries again to
    /// create a thread.
    pub fn scan(&mut self) {
        if self.server.now < self.next_scan {
            return;
        }
        let missing = !self.has_threads();
        let still_missing = missing && self.thread_missing;
        self.thread_missing = missing && !still_missing;
        let period =
            if self.thread_missing { THREAD_CHECK_DELAY } else { SCAN_PERIOD };
        self.next_scan = self.server.now + period;
        let keys: Vec<_> = self.clients.keys().collect();
        for key in keys {
            let operation = &self.clients[key].operation;
            if operation.is_lost() {
                self.on_completed(key);
            } else if !operation.is_in_flight() {
                self.start(key);
            } else if still_missing {
                operation.cancel(&self.server.connections[key].stream);
            }
        }
    }

    /// Ends a conversation whose last operation is complete, but whose result
    /// was lost together with its signal.
    pub fn give_up(&mut self, key: DefaultKey) {
        log(
            Cause::Conversation,
            format_args!(
                "a conversation failed: the queue of signals was full, and \
                 a completion was lost (ulimit -i)"
            ),
        );
        self.hang_up(key);
    }
}
