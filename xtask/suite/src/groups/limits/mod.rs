//! Limits: which connections are rejected and how, and that other clients are
//! not affected.

mod faults;
mod idle;
mod memory;

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::process::group_cpu_time;
use lab::promises::{Answers, Promises};

use super::Resources;
use crate::case::{Case, For, Trial};
use crate::client::{Client, REJECTION};
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("connections::one_too_many", one_too_many).only(For::Many),
        Case::new("connections::had_sent_already", had_sent).only(For::Many),
        Case::new("connections::freed_place", place_is_free).only(For::Many),
        Case::new("connections::ending_clients_count", ending_clients_count)
            .only(For::Many),
        Case::new("connections::others_are_unaffected", others_go_on)
            .only(For::Many),
        Case::new("connections::more_than_descriptors", warns).only(For::Many),
        Case::new("descriptors::exhausted", descriptors_exhausted)
            .only(For::Promising(Promises::rejects_the_next)),
        Case::new("descriptors::few_are_enough", few_descriptors)
            .only(For::Promising(|it| !it.rejects_the_next())),
    ];
    cases.extend(idle::cases());
    cases.extend(faults::cases());
    cases.extend(memory::cases());
    cases
}

/// Starts a server with a connection limit of two, and connects two clients.
fn full(trial: &Trial) -> Result<(Rc<Server>, Client, Client)> {
    let server = trial.serve_with("--max-connections 2")?;
    let (mut first, mut second) = (server.connect()?, server.connect()?);
    first.ping()?;
    second.ping()?;
    Ok((server, first, second))
}

fn one_too_many(trial: &Trial) -> Result<()> {
    let (server, mut first, mut second) = full(trial)?;
    // When one is rejected, the served clients have all their resources.
    server.connect()?.expect(REJECTION)?.expect_end()?;
    let held = Resources::settled(&server)?;
    for _ in 0..10 {
        server.connect()?.expect(REJECTION)?.expect_end()?;
    }
    held.again(&server).context("rejected connections left something")?;
    first.ping()?;
    second.ping()?;
    Ok(())
}

/// Closing a socket with unread input sends a reset, which would destroy the
/// rejection on its way.
fn had_sent(trial: &Trial) -> Result<()> {
    let (server, mut first, _second) = full(trial)?;
    server.connect()?.expect(REJECTION)?.expect_end()?;
    let held = Resources::settled(&server)?;
    for size in [6, 600, 60_000] {
        server.freeze()?;
        let mut new_client = server.connect()?;
        new_client.send("PING\r\n".repeat(size / 6))?.wait_until_arrived()?;
        server.thaw()?;
        new_client
            .expect(REJECTION)
            .and_then(Client::expect_end)
            .with_context(|| format!("had sent {size} bytes"))?;
        // The server has closed by now, and a reset, if any, has arrived.
        held.again(&server)?;
        new_client
            .expect_no_reset()
            .with_context(|| format!("had sent {size} bytes"))?;
    }
    first.ping()?;
    Ok(())
}

fn place_is_free(trial: &Trial) -> Result<()> {
    let (server, first, mut second) = full(trial)?;
    server.connect()?.expect(REJECTION)?;
    first.leave()?;
    let mut third = server.wait_for_place()?;
    second.ping()?;
    server.connect()?.expect(REJECTION)?.expect_end()?;
    third.ping()?;
    third.reset()?;
    server.wait_for_place().map(drop)
}

/// A client that got EOF counts until it has closed its side.
fn ending_clients_count(trial: &Trial) -> Result<()> {
    let (server, mut first, mut second) = full(trial)?;
    first.send("QUIT\r\n")?.expect("+OK\r\n")?.expect_end()?;
    server.connect()?.expect(REJECTION)?.expect_end()?;
    drop(first);
    server.wait_for_place()?;
    second.ping()?;
    Ok(())
}

/// While hundreds of connections are rejected, the clients are served.
fn others_go_on(trial: &Trial) -> Result<()> {
    let (server, mut first, mut second) = full(trial)?;
    for _ in 0..300 {
        let mut new_client = server.connect()?;
        first.ping()?;
        new_client.expect(REJECTION)?.expect_end()?;
        second.ping()?;
    }
    // One line per second, not one per connection.
    let lines = server.stderr.text().lines().count();
    ensure!(lines <= 15, "{lines} lines on standard error");
    Ok(())
}

/// A limit beyond the descriptors is used, with a warning.
fn warns(trial: &Trial) -> Result<()> {
    let server = trial
        .launch()
        .descriptors(64, 64)
        .flags("--max-connections 100000")
        .start()?;
    server.connect()?.ping()?;
    let answers = trial.subject.promises().answers;
    if matches!(answers, Answers::OwnProcess | Answers::PoolProcess) {
        // The descriptors of its clients are in other processes.
        return Ok(());
    }
    let said = server.stderr.wait_for("100000")?;
    ensure!(said.contains("warning"), "stderr: {said:?}");
    Ok(())
}

/// A hundred clients, and 32 descriptors: each client is served or gets the
/// rejection, nothing spins, and when they have left the next are served.
fn descriptors_exhausted(trial: &Trial) -> Result<()> {
    let server = trial
        .launch()
        .resting()
        .descriptors(32, 32)
        .flags("--max-connections 100000")
        .start()?;
    let before = Resources::of(&server)?;
    for round in 0..2 {
        let name = || format!("round {round}");
        let mut served = server.admitted(100).with_context(name)?;
        let count = served.len();
        ensure!(count >= 10, "32 descriptors, and {count} clients served");
        Client::ping_all(&mut served)?;
        // No client sends anything now, so there is nothing to do.
        expect_rest(&server)?;
        drop(served);
        before.again(&server)?;
        server.wait_for_place()?.ping()?;
        before.again(&server)?;
    }
    let lines = server.stderr.text().lines().count();
    ensure!(lines <= 30, "{lines} lines on standard error");
    Ok(())
}

/// A server of few clients needs few descriptors: other clients wait in the
/// accept queue.
fn few_descriptors(trial: &Trial) -> Result<()> {
    let server = trial.launch().resting().descriptors(32, 32).start()?;
    let mut clients = server.connect_many(100)?;
    clients[0].ping()?;
    expect_rest(&server)?;
    for mut client in clients {
        client.ping()?;
    }
    Ok(())
}

/// Checks that the server uses the CPU for at most a tenth of half a second; a
/// busy loop uses all of it. The server was started [resting], in case its
/// model polls.
///
/// [resting]: crate::launch::Launch::resting
pub fn expect_rest(server: &Server) -> Result<()> {
    expect_rest_for(server, Duration::from_millis(500))
}

/// Checks the same for another length of time.
pub fn expect_rest_for(server: &Server, window: Duration) -> Result<()> {
    let (before, started) = (group_cpu_time(server.pid), Instant::now());
    std::thread::sleep(window);
    let used = group_cpu_time(server.pid).saturating_sub(before);
    let took = started.elapsed();
    ensure!(used <= window / 10, "idle, it used the CPU {used:?} of {took:?}");
    Ok(())
}
