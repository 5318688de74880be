//! The limits that all models share, each with its unit and its reason.

use std::time::Duration;

/// Size in bytes of the input buffer that all clients of a loop share: large
/// enough that system calls do not dominate.
pub const INPUT_CHUNK: usize = 16 * 1024;

/// Size in bytes of a client's own input buffer: one page.
pub const INPUT_CHUNK_PER_CLIENT: usize = 4 * 1024;

/// Read budget in bytes: how much is read from one client before the next
/// client gets its turn.
pub const READ_BUDGET: usize = 64 * 1024;

/// Connections accepted in one round, before clients get their turn.
pub const ACCEPTS_PER_ROUND: usize = 64;

/// Datagrams answered in one round, before streams get their turn, and the most
/// that are answered during the drain.
pub const DATAGRAMS_PER_ROUND: usize = 64;

/// High-water mark: bytes of pending output at which reading from a client
/// pauses.
pub const OUTPUT_HIGH_WATER: usize = 256 * 1024;

/// Low-water mark: bytes of pending output below which reading resumes.
pub const OUTPUT_LOW_WATER: usize = 64 * 1024;

/// Capacity in bytes that a loop's shared output buffer keeps between uses.
pub const OUTPUT_KEPT: usize = 64 * 1024;

/// Capacity in bytes that a client's own output buffer keeps between uses.
pub const OUTPUT_KEPT_PER_CLIENT: usize = 4 * 1024;

/// How long a lingering close waits for the client's end of file. Closing
/// earlier, with input unread, would reset the connection and destroy replies
/// in transit (RFC 9293, section 3.10.4, and RFC 1122, section 4.2.2.13).
pub const LINGER: Duration = Duration::from_secs(2);

/// How long after its idle timeout a client of a completion model is closed. A
/// request that arrived in time may still be on its way from the kernel or from
/// a helper thread.
pub const GRACE: Duration = Duration::from_millis(100);

/// How often a draining server polls whether the last replies are acknowledged,
/// for which poll(2) and epoll(7) have no event. It is short compared with a
/// delayed acknowledgement, which takes 40 ms or more (TCP_DELACK_MIN in
/// include/net/tcp.h).
pub const ACK_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long accepting pauses after accept(2) has failed for lack of descriptors
/// or memory. Connections stay in the accept queue meanwhile.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How long after its start a worker process that has died is started again, at
/// the earliest. One that lived longer is replaced at once; one that dies at
/// its start does not keep the machine busy with forks.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// The default connection limit, if there are enough descriptors.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// Descriptors kept free by default, for /proc, a log, a debugger.
pub const DESCRIPTORS_KEPT_FREE: usize = 8;

/// Size in bytes of the largest datagram, which is one over IPv6: 65,535 less
/// UDP's header; the IPv6 header is not counted (RFC 768, RFC 8200). A smaller
/// buffer would truncate it silently.
pub const MAX_DATAGRAM: usize = 65_527;

/// Size in bytes of the largest reply, the same over IPv4 and IPv6: 65,535 less
/// the headers of IPv4 and UDP (RFC 791, RFC 768).
pub const MAX_DATAGRAM_REPLY: usize = 65_507;

/// Bytes that are discarded from a rejected connection, so that its error reply
/// arrives: closing with input unread resets the connection.
pub const REJECTED_INPUT: usize = 64 * 1024;
