//! Every limit the models share, each with its unit and its reason.

use std::time::Duration;

/// Bytes one receiving call may bring: a page-multiple that fits a thread's
/// small stack, and large enough that system calls do not dominate.
pub const INPUT_CHUNK: usize = 16 * 1024;

/// Bytes taken from one client before the next one has its turn.
pub const READ_BUDGET: usize = 64 * 1024;

/// Newcomers taken, and datagrams answered, before the others have their turn.
pub const ACCEPTS_PER_ROUND: usize = 64;

/// Datagrams answered before the streams have their turn, and at most so many
/// that were queued when the server is asked to stop.
pub const DATAGRAMS_PER_ROUND: usize = 64;

/// Bytes of replies a client may leave unread before it is not listened to.
pub const OUTPUT_HIGH: usize = 256 * 1024;

/// Bytes of unread replies below which it is listened to again.
pub const OUTPUT_LOW: usize = 64 * 1024;

/// Bytes of capacity an output buffer keeps once it is empty and shared by
/// all the clients of a loop, or by all the requests of a thread.
pub const OUTPUT_KEPT: usize = 64 * 1024;

/// How long the end of a conversation waits for the client's end of file.
/// Closing earlier, with input unread, would reset the connection and destroy
/// replies still on their way (RFC 9293, section 3.10.4, and RFC 1122, section
/// 4.2.2.13).
pub const LINGER: Duration = Duration::from_secs(2);

/// How long a server that could not accept, not even with its reserve
/// descriptor, leaves the newcomers waiting in the backlog.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most clients by default, however many descriptors there are.
pub const CONNECTIONS: usize = 65_536;

/// Descriptors kept free by default, for /proc, a log, a debugger.
pub const DESCRIPTORS_SPARE: usize = 8;

/// Bytes of the largest datagram: 65,535 less the headers of IPv4 and UDP.
pub const DATAGRAM: usize = 65_507;

/// Bytes a refused newcomer may have sent already and still get its answer:
/// they are discarded, because closing with input unread resets.
pub const REFUSED_INPUT: usize = 64 * 1024;
