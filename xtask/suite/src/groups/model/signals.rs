//! Queued signals that report events on sockets, and a full queue.

use anyhow::{Context, Result, ensure};
use lab::promises::WaitsIn;
use nix::sys::signal::Signal;

use crate::bytes::{echo, payload, unknowns};
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::groups::Resources;
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, limit| {
        Case::new(name, move |trial| overflows(trial, limit))
            .only(For::Promising(|it| it.waits_in == WaitsIn::Signals))
    };
    vec![
        case("queue::overflows", 8),
        case("queue::no_room", 0),
        Case::serving("queue::forged_overflow", forged_overflow)
            .only(For::Promising(|it| it.waits_in == WaitsIn::Signals)),
    ]
}

/// A SIGIO from another process is not the kernel's: nothing was lost, and
/// standard error must not say so.
fn forged_overflow(server: &Server) -> Result<()> {
    let mut client = server.connect()?;
    client.ping()?;
    server.signal_and_wait(Signal::SIGIO)?;
    client.ping()?;
    server.signal(Signal::SIGTERM)?;
    let stderr = server.wait()?.expect(0)?.stderr;
    ensure!(stderr.is_empty(), "standard error says {stderr:?}");
    Ok(())
}

/// More events occur at once than the signal queue has places. Still every
/// request is answered, every new client is served, every client that left is
/// released, and a client that did not read gets the rest.
fn overflows(trial: &Trial, places: u64) -> Result<()> {
    const CLIENTS: usize = 40;

    let server =
        trial.launch().udp("127.0.0.1:0").signals_pending(places).start()?;
    let peer = server.peer()?;
    let before = Resources::of(&server)?;
    let (requests, replies) = unknowns(10_500);
    for round in 0..3 {
        let mut clients = server.connect_served(CLIENTS)?;
        let leaving = server.connect_served(CLIENTS)?;
        let mut slow = Client::with_small_window(server.tcp()?)?;
        slow.send(&requests)?.wait_until_arrived()?;

        server.freeze()?;
        clients.extend(server.connect_many(CLIENTS)?);
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(words(number).0.repeat(3))?;
        }
        Client::wait_until_all_arrived(&mut clients)?;
        for _ in 0..20 {
            peer.send("PING\r\n")?;
        }
        drop(leaving);
        server.thaw()?;

        for (number, client) in clients.iter_mut().enumerate() {
            client
                .expect(words(number).1.repeat(3))
                .with_context(|| format!("client {number}, round {round}"))?;
        }
        for _ in 0..20 {
            peer.expect("+PONG\r\n")?;
        }
        slow.expect(&replies)?.ping()?;
        drop((clients, slow));
        before.again(&server)?;
    }
    server.stderr.wait_for("queue of signals was full")?;
    Ok(())
}

fn words(number: usize) -> (Vec<u8>, Vec<u8>) {
    echo(payload(number, 100))
}
