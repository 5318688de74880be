//! Every limit the models share, each with its unit and its reason.

use std::time::Duration;

/// Bytes one receiving call may bring, into a buffer that all clients share:
/// large enough that system calls do not dominate.
pub const INPUT_CHUNK: usize = 16 * 1024;

/// The same where every client has a buffer, busy or idle: a page of memory.
pub const INPUT_CHUNK_PER_CLIENT: usize = 4 * 1024;

/// Bytes taken from one client before the next one has its turn.
pub const READ_BUDGET: usize = 64 * 1024;

/// Acceptor taken before the others have their turn.
pub const ACCEPTS_PER_ROUND: usize = 64;

/// Datagrams answered before the streams have their turn, and at most so many
/// that were queued when the server is asked to stop.
pub const DATAGRAMS_PER_ROUND: usize = 64;

/// Bytes of replies a client may leave unread before it is not listened to.
pub const OUTPUT_HIGH_WATER: usize = 256 * 1024;

/// Bytes of unread replies below which it is listened to again.
pub const OUTPUT_LOW_WATER: usize = 64 * 1024;

/// Bytes of capacity that a loop's output buffer keeps, which all its clients
/// share.
pub const OUTPUT_KEPT: usize = 64 * 1024;

/// Bytes of capacity that an output buffer keeps where every client has one.
pub const OUTPUT_KEPT_PER_CLIENT: usize = 4 * 1024;

/// How long the end of a conversation waits for the client's end of file.
/// Closing earlier, with input unread, would reset the connection and destroy
/// replies still on their way (RFC 9293, section 3.10.4, and RFC 1122, section
/// 4.2.2.13).
pub const LINGER: Duration = Duration::from_secs(2);

/// How often a server that stops looks whether the last replies have arrived:
/// the kernel has no event for it. Short against a delayed acknowledgement,
/// which is what it mostly waits for: 40 ms or more (TCP_DELACK_MIN in
/// include/net/tcp.h).
pub const ACK_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a call is left alone that failed for want of memory or, with the
/// reserve spent, of descriptors: new clients wait in the backlog meanwhile.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Most clients by default, however many descriptors there are.
pub const DEFAULT_MAX_CONNECTIONS: usize = 65_536;

/// Descriptors kept free by default, for /proc, a log, a debugger.
pub const DESCRIPTORS_KEPT_FREE: usize = 8;

/// Bytes of the largest datagram there is, over IPv6: 65,535 less UDP's
/// header, as its own is not counted (RFC 768, RFC 8200). A smaller buffer
/// would cut it off without a word.
pub const MAX_DATAGRAM: usize = 65_527;

/// Bytes of the largest reply, the same over IPv4 and IPv6: 65,535 less the
/// headers of IPv4 and UDP (RFC 791, RFC 768).
pub const MAX_DATAGRAM_REPLY: usize = 65_507;

/// Bytes a refused new client may have sent already and still get its answer:
/// they are discarded, because closing with input unread resets.
pub const REJECTED_INPUT: usize = 64 * 1024;
