//! The memory that one hostile client can make a server hold, and the cost of
//! an idle client.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::{Price, Resources, Witness};
use crate::bytes::{echo, payload};
use crate::case::{Case, For, Trial};
use crate::client::{Client, is_reset};
use crate::server::Server;
use crate::skip::skip;

const MAX_REQUEST: u64 = 1 << 20;

/// The numbers of idle clients at the first and the second measurement.
/// select(2) can wait for both.
const SOME: usize = 200;
const MANY: usize = 1_000;

/// The number of clients that connect at a time, see `ceiling`.
const AT_A_TIME: usize = 64;

pub fn cases() -> Vec<Case> {
    let hostile = |name: &'static str, opening: &'static str, flood| {
        Case::new(name, move |trial| bounded(trial, opening, flood))
    };
    vec![
        hostile("memory::endless_array", "*2147483647\r\n", "$1\r\nx\r\n"),
        hostile("memory::empty_arguments", "*2147483647\r\n", "$0\r\n\r\n"),
        hostile("memory::largest_bulk", "*2\r\n$1048576\r\n", "x"),
        hostile("memory::endless_line", "", "x"),
        hostile("memory::many_words", "", "x "),
        hostile("memory::endless_header", "*", "1"),
        hostile("memory::unread_echoes", "", "*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"),
        hostile("memory::unread_errors", "", "x\n"),
        hostile("memory::unread_pings", "", "PING\n"),
        Case::new("memory::idle_clients", idle_clients).only(For::Many),
        Case::new("memory::slope", slope).only(For::Many).crowd(MANY),
    ]
}

/// Sends the opening and then the flood repeatedly, reading nothing, until the
/// server stops reading. The memory that it holds then must be within the
/// stated bound.
fn bounded(trial: &Trial, opening: &str, flood: &str) -> Result<()> {
    // The memory of each worker is read each time.
    let server = trial.launch().workers(4).start()?;
    let mut witness = Witness::beside(&server)?;
    witness.is_served()?;
    let mut client = server.connect()?;
    client.ping()?;
    let mut price = Price::new(&server, MAX_REQUEST);
    client.send(opening)?;
    // The server may have closed the connection instead.
    let outcome = client.stuff(flood.as_bytes(), |sent| price.watch(sent));
    if let Err(error) = outcome
        && !error.downcast_ref().is_some_and(is_reset)
    {
        return Err(error);
    }
    price.check()?;
    drop(client);
    witness.is_served()
}

/// Measures what an idle client that has done one PING costs. It is the slope
/// between some clients and many, so the server's fixed costs do not count.
/// Memory grows in steps, which with so few clients add up to half a KiB for
/// each. A client of a pool costs its worker, so for each number of clients a
/// pool is started that has as many workers. Few are enough, because a worker
/// costs much more than a step.
fn slope(trial: &Trial) -> Result<()> {
    const STEP: f64 = 0.5;

    let promised = trial.subject.promises().idle_kib;
    let most = promised.context("no promise on an idle client's memory")?;
    let mut server = trial.launch().workers(SOME).start()?;
    let mut clients = Vec::new();
    let mut held = [0.0; 2];
    let is_pool = trial.subject.model.pool.is_some();
    let counts = if is_pool { [SOME / 4, MANY / 4] } else { [SOME, MANY] };
    for (held, count) in held.iter_mut().zip(counts) {
        if is_pool {
            clients.clear();
            server.stop()?;
            server = trial.launch().workers(count).start()?;
        }
        let served = server.bring(&mut clients, count, AT_A_TIME)?;
        let brought = clients.len();
        ensure!(served, skip(format!("rejects clients beyond {brought}")));
        *held = at_rest(&server) as f64;
    }
    let each = (held[1] - held[0]) / (counts[1] - counts[0]) as f64 / 1024.0;
    ensure!(
        each <= most + STEP,
        "an idle client costs {each:.2} KiB, more than {most} + {STEP}"
    );
    Ok(())
}

/// Returns the memory of the server's processes, once it no longer changes.
fn at_rest(server: &Server) -> u64 {
    let mut before = server.memory();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        let now = server.memory();
        if now == before {
            break;
        }
        before = now;
    }
    before
}

/// An idle client holds no buffer, whatever it has needed before. If it has a
/// thread or a process of its own, the allocator of that one may keep some
/// memory; so may the allocator of each thread or process that exists from the
/// start.
fn idle_clients(trial: &Trial) -> Result<()> {
    const CLIENTS: usize = 50;
    const OWN_ALLOCATOR: u64 = 512 << 10;
    const SHARED_ALLOCATOR: u64 = 1 << 20;

    let server = trial.serve()?;
    let alone = Resources::of(&server)?;
    let mut clients = server.connect_many(CLIENTS)?;
    Client::ping_all(&mut clients)?;
    let shared = !Resources::of(&server)?.exceeds(&alone);
    let for_each = if shared { 8 << 10 } else { OWN_ALLOCATOR };
    let allocators = alone.threads.max(alone.processes) as u64;
    let allocators = allocators * SHARED_ALLOCATOR;
    let most = CLIENTS as u64 * for_each + allocators;
    let before = server.memory();
    for (number, client) in clients.iter_mut().enumerate() {
        let (request, reply) = echo(payload(number, 300_000));
        client.exchange(request, reply)?.ping()?;
    }
    let more = server.memory().saturating_sub(before);
    ensure!(
        more <= most,
        "{CLIENTS} idle clients hold {more} bytes more; the bound is {most}"
    );
    Ok(())
}
