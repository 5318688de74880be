//! The groups of cases.

mod clients;
mod edge_cases;
mod edges;
mod haproxy;
mod lifecycle;
mod limits;
mod minimal;
mod model;
mod protocol;
mod rows;
mod streams;
mod tcp;
mod trace;
mod udp;
mod under_load;

use anyhow::{Context, Result, ensure};
use lab::process::poll_until;

use super::PATIENCE;
use super::case::Case;
use super::client::Client;
use super::reply::Info;
use super::server::Server;
use super::skip::skip;

/// Makes a group's cases.
type Cases = fn() -> Vec<Case>;

/// The group whose cases are about minimal programs.
pub const MINIMAL: &str = "minimal";

/// The groups in the order of the matrix.
pub const GROUPS: [(&str, Cases); 10] = [
    (MINIMAL, minimal::cases),
    ("protocol", protocol::cases),
    ("tcp", tcp::cases),
    ("udp", udp::cases),
    ("limits", limits::cases),
    ("clients", clients::cases),
    ("lifecycle", lifecycle::cases),
    ("under_load", under_load::cases),
    ("model", model::cases),
    ("trace", trace::cases),
];

/// A client that must not be affected by other clients. A server of many
/// clients serves it all the time; a server of one client, whenever the others
/// have left.
#[derive(Debug)]
struct Witness<'a> {
    server: &'a Server,
    /// Connected before the others, unless the server serves one at a time.
    first: Option<Client>,
}

impl<'a> Witness<'a> {
    fn beside(server: &'a Server) -> Result<Self> {
        let mut first = None;
        if !server.serves_one {
            first.insert(server.connect()?).ping()?;
        }
        Ok(Self { server, first })
    }

    /// Does not connect a new client, which might have to wait.
    fn first_is_served(&mut self) -> Result<()> {
        if let Some(first) = &mut self.first {
            first.ping().context("the client that was there first")?;
        }
        Ok(())
    }

    fn is_served(&mut self) -> Result<()> {
        self.first_is_served()?;
        self.server.connect()?.ping().context("a client that came later")?;
        Ok(())
    }
}

/// The memory that one client costs a server, and its bound.
#[derive(Debug)]
struct Price<'a> {
    server: &'a Server,
    before: u64,
    most: u64,
    /// Bytes that the client had sent when it was last checked.
    sent: usize,
}

impl<'a> Price<'a> {
    /// The number of bytes between two checks. The memory that a server holds
    /// for a client that doesn't read stays, and reading /proc is expensive.
    const STEP: usize = 1 << 20;

    /// Sums up the bound: twice the largest request, the high-water mark of
    /// pending output, and the replies to one chunk of input. An allocator may
    /// also keep memory that was freed.
    fn new(server: &'a Server, max_request: u64) -> Self {
        const PENDING: u64 = 256 << 10;
        const CHUNK: u64 = 16 << 10;
        const ALLOCATOR: u64 = 1 << 20;
        let multiplied = CHUNK / "INFO\r\n".len() as u64 * Info::MAX as u64;
        let most = 2 * max_request + PENDING + multiplied + ALLOCATOR;
        Self { server, before: server.memory(), most, sent: 0 }
    }

    /// Checks the bound after every `STEP` bytes, while the client sends.
    fn watch(&mut self, sent: usize) -> Result<()> {
        if sent < self.sent + Self::STEP {
            return Ok(());
        }
        self.sent = sent;
        self.check()
    }

    fn check(&self) -> Result<()> {
        let Self { most, sent, .. } = self;
        let more = self.server.memory().saturating_sub(self.before);
        ensure!(
            more <= *most,
            "{more} bytes, not {most}, at {sent} bytes sent"
        );
        Ok(())
    }
}

/// The number of equal observations in a row after which the resources of a
/// server count as settled.
const LOOKS: usize = 25;

/// The resources that a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resources {
    descriptors: usize,
    threads: usize,
    processes: usize,
}

impl Resources {
    fn of(server: &Server) -> Result<Self> {
        let process = server.process()?;
        Ok(Self {
            descriptors: process.descriptors(),
            threads: process.threads,
            processes: server.group().len(),
        })
    }

    /// Waits until the resources no longer change: with a thread pool, a client
    /// that has its reply may be without a thread for a moment.
    fn settled(server: &Server) -> Result<Self> {
        let mut seen = Self::of(server)?;
        let mut same = 0;
        poll_until("the server's resources to settle", PATIENCE, || {
            let now = Self::of(server)?;
            same = if now == seen { same + 1 } else { 0 };
            seen = now;
            Ok(same == LOOKS)
        })?;
        Ok(seen)
    }

    /// Returns whether there are more threads or processes than before.
    fn exceeds(&self, before: &Self) -> bool {
        self.threads > before.threads || self.processes > before.processes
    }

    /// Waits until the server holds no more than this. A client gets no event
    /// when the server has released its side.
    fn again(&self, server: &Server) -> Result<()> {
        poll_until("everything to be released", PATIENCE, || {
            let seen = Self::of(server)?;
            Ok(seen.descriptors <= self.descriptors && !seen.exceeds(self))
        })
        .with_context(|| format!("it had {self:?}, has {:?}", Self::of(server)))
    }
}

/// Skips a case if the machine has no IPv6.
fn needs_ipv6() -> Result<()> {
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => Ok(()),
        Err(error) => Err(skip(format!("no IPv6 here: {error}"))),
    }
}
