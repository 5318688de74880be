//! The cases, one file a group.

mod protocol;
mod rows;
mod tcp;

use anyhow::{Context, Result};

use super::case::{Case, Trial};
use super::client::Client;
use super::reply::Info;
use super::server::Server;

/// The groups, in the order of the matrix.
pub const NAMES: [&str; 2] = ["protocol", "tcp"];

/// All cases, group by group.
pub fn all() -> Vec<(&'static str, Vec<Case>)> {
    NAMES.into_iter().zip([protocol::cases(), tcp::cases()]).collect()
}

/// Whoever must not notice what others suffer. A server of many serves it all
/// the time; a server of one, whenever the others have left.
#[derive(Debug)]
struct Witness<'a> {
    server: &'a Server,
    /// Connected before the others, unless the server serves one.
    first: Option<Client>,
}

impl<'a> Witness<'a> {
    fn beside(trial: &Trial, server: &'a Server) -> Result<Self> {
        let first = if trial.subject.serves_one() {
            None
        } else {
            let mut first = server.connect()?;
            first.ping()?;
            Some(first)
        };
        Ok(Self { server, first })
    }

    fn is_served(&mut self) -> Result<()> {
        if let Some(first) = &mut self.first {
            first.ping().context("the client that was there first")?;
        }
        self.server.connect()?.ping().context("a client that came later")?;
        Ok(())
    }
}

/// What one client may cost a server, in bytes: twice the largest request, the
/// replies at which the server stops to listen, and what one chunk of input
/// can multiply to. Besides, an allocator does not give back at once all that
/// it got.
fn bound_for_one(max_request: u64) -> u64 {
    const PENDING: u64 = 256 << 10;
    const CHUNK: u64 = 16 << 10;
    const ALLOCATOR: u64 = 1 << 20;
    let multiplied = CHUNK / "INFO\r\n".len() as u64 * Info::MAX as u64;
    2 * max_request + PENDING + multiplied + ALLOCATOR
}
