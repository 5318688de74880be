//! A server must react to more than its clients' requests: to a shutdown
//! signal, a second one, new clients, datagrams, timers. In these cases all its
//! clients send requests without a pause, and must starve neither any of these
//! nor each other.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::load::Load;
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body).crowd(CLIENTS + TIMES).alone()
    };
    vec![
        case("shutdown", shutdown),
        case("second_signal", second_signal),
        case("accept", accept).only(For::Many),
        case("datagram", datagram).only(For::Many),
        case("idle_timeout", idle_timeout).only(For::Many),
        case("each_other", each_other).only(For::Many),
    ]
}

/// The number of busy clients: several times the 64 signals that signal-driven
/// and posix-aio read at a time. With fewer, starvation did not show reliably.
const CLIENTS: usize = 400;

/// The limit on how long shutdown takes, and on how late a timer is. A server's
/// round takes some ten milliseconds under this load, and a few rounds are
/// needed.
const SOON: Duration = Duration::from_millis(1_500);

/// The number of new clients, or of datagrams.
const TIMES: usize = 20;

/// How often all the busy clients may be answered before the new clients, or
/// the datagrams, are: a few times more than necessary. Rounds instead of
/// seconds, because other programs slow down both alike.
const ROUNDS: usize = 10;

/// Checks that what began in round `before` of the load did not have to wait
/// for the busy clients.
fn expect_a_turn(load: &Load, before: usize) -> Result<()> {
    let rounds = load.rounds() - before;
    ensure!(rounds <= ROUNDS, "it took {rounds} rounds of the busy clients");
    Ok(())
}

/// Returns the number of loops among which the clients are spread unevenly. One
/// loop may have nearly all of them. The others then answer their few clients
/// as many times more often as there are loops, on average over all clients.
fn loops(trial: &Trial) -> usize {
    match trial.subject.promises().uneven {
        Some(_) => available_parallelism().map_or(1, NonZero::get),
        None => 1,
    }
}

/// The number of rounds in which each busy client must be answered in every
/// third one at least.
const FAIR_ROUNDS: usize = 12;

fn load(server: &Server) -> Result<Load> {
    Load::start(server.tcp()?, server.clients(CLIENTS))
}

fn shutdown(trial: &Trial) -> Result<()> {
    // Whether other signals are queued before SIGTERM varies between runs.
    for round in 0..2 {
        shutdown_once(trial).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

fn shutdown_once(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--drain-timeout 60")?;
    let load = load(&server)?;
    let asked = Instant::now();
    server.terminate()?;
    let took = load.first_end()?.saturating_duration_since(asked);
    ensure!(took < SOON, "the first client was closed after {took:?}");
    load.expect_ends()?;
    server.expect_exit(0)?;
    let took = asked.elapsed();
    ensure!(took < 2 * SOON, "the server ended after {took:?}");
    Ok(())
}

/// A client that does not read keeps the drain going for a minute.
fn second_signal(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--drain-timeout 60")?;
    // A server of one client has no other client, and drains for this one.
    let mut deaf = Client::with_small_window(server.tcp()?)?;
    deaf.ping()?.stuff(b"INFO\r\n", |_| Ok(()))?;
    let load = match trial.subject.serves_one() {
        true => None,
        false => Some(load(&server)?),
    };
    server.signal_and_wait(Signal::SIGTERM)?;
    let asked = Instant::now();
    server.terminate()?;
    server.expect_exit(1)?;
    let took = asked.elapsed();
    ensure!(took < SOON, "the server ended after {took:?}");
    load.map_or(Ok(()), Load::expect_ends)
}

fn accept(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let load = load(&server)?;
    let before = load.rounds();
    let mut clients = Vec::new();
    for _ in 0..TIMES {
        let mut client = server.connect()?;
        client.send("PING\r\n")?;
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let name = || format!("new client {number}");
        client.expect("+PONG\r\n").with_context(name)?;
    }
    expect_a_turn(&load, before)?;
    load.leave()
}

fn datagram(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let server = trial.launch().udp("127.0.0.1:0").start()?;
    let load = load(&server)?;
    let peer = server.peer()?;
    let before = load.rounds();
    for _ in 0..TIMES {
        peer.send("PING\r\n")?;
    }
    for number in 0..TIMES {
        peer.expect("+PONG\r\n")
            .with_context(|| format!("datagram {number}"))?;
    }
    expect_a_turn(&load, before)?;
    load.leave()
}

/// The busy clients complete requests all the time, so they stay connected.
fn idle_timeout(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--idle-timeout 0.5")?;
    let load = load(&server)?;
    let connected = Instant::now();
    let mut silent = server.connect()?;
    silent.expect_end()?;
    let took = connected.elapsed();
    let range = Duration::from_millis(400)..Duration::from_millis(500) + SOON;
    ensure!(range.contains(&took), "the idle client was closed after {took:?}");
    load.leave()
}

fn each_other(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    // Whether new clients have their turn is the case `accept`.
    let clients = server.clients(CLIENTS);
    let load = Load::start_served(server.tcp()?, clients)?;
    let fewest = load.fewest(FAIR_ROUNDS)?;
    let least = (FAIR_ROUNDS / 3).div_ceil(loops(trial));
    ensure!(
        fewest >= least,
        "a client was answered {fewest} times, all on average {FAIR_ROUNDS} \
         times or more",
    );
    Ok(())
}
