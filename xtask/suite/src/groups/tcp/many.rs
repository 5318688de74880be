//! Many clients: at the same time, in turn, one after the other.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::promises::Promises;

use super::super::Resources;
use crate::bytes::{echo, payload};
use crate::case::{Case, For, Trial};
use crate::fault::{self, Fault};
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("many::interleaved", interleaved).only(For::Many).crowd(200),
        Case::new("many::in_turn", in_turn).only(For::One),
        Case::serving("many::busy_client", busy_one).only(For::Many),
        Case::new("many::input_without_end", input_without_end)
            .only(For::Promising(has_turns)),
        Case::serving("many::silent_clients", silent_ones)
            .only(For::Many)
            .crowd(301),
        Case::serving("many::short_connections", short_connections),
    ]
}

/// 200 clients send different words, in pieces that interleave.
fn interleaved(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let mut random = trial.random();
    let mut clients = server.connect_many(200)?;
    for round in 0..3 {
        let echoes: Vec<_> = (0..clients.len())
            .map(|i| echo(payload(1000 * round + i, 50 + 7 * i)))
            .collect();
        for part in 0..3 {
            for (client, (request, _)) in clients.iter_mut().zip(&echoes) {
                let size = request.len().div_ceil(3);
                client.send(request.chunks(size).nth(part).unwrap_or(b""))?;
            }
        }
        let mut order: Vec<_> = (0..clients.len()).collect();
        random.shuffle(&mut order);
        for i in order {
            let expected = &echoes[i].1;
            clients[i]
                .expect(expected)
                .with_context(|| format!("client {i}"))?;
        }
    }
    Ok(())
}

/// 200 clients of a server that serves one at a time wait in the accept queue.
/// Each is served when those before it have left, and none is lost.
fn in_turn(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--backlog 256")?;
    let mut clients = server.connect_many(200)?;
    let echoes: Vec<_> =
        (0..clients.len()).map(|i| echo(payload(i, 50 + 7 * i))).collect();
    for (client, (request, _)) in clients.iter_mut().zip(&echoes) {
        client.send(request)?;
    }
    for (i, mut client) in clients.into_iter().enumerate() {
        let expected = &echoes[i].1;
        client.expect(expected).with_context(|| format!("client {i}"))?;
    }
    Ok(())
}

/// A client that never stops sending gets its share and no more. It sends empty
/// lines: no replies slow it down, and it sends faster than the server reads.
fn busy_one(server: &Server) -> Result<()> {
    let mut busy = server.connect()?;
    let mut other = server.connect()?;
    busy.ping()?;
    other.ping()?;
    thread::scope(|scope| {
        let (over, is_over) = mpsc::channel::<()>();
        let busy = scope.spawn(move || -> Result<()> {
            let lines = "\r\n".repeat(32_768);
            // Runs until `over` is dropped.
            while is_over.try_recv() == Err(mpsc::TryRecvError::Empty) {
                busy.send(&lines)?;
            }
            busy.ping().map(drop)
        });
        for _ in 0..100 {
            let asked = Instant::now();
            other.ping().context("beside a busy client")?;
            let waited = asked.elapsed();
            ensure!(waited < Duration::from_secs(1), "waited {waited:?}");
        }
        drop(over);
        busy.join()
            .unwrap_or_else(|_| anyhow::bail!("the busy client panicked"))
    })
}

/// Returns whether a thread answers several clients, which then take turns.
fn has_turns(promises: &Promises) -> bool {
    let many = promises.idle_kib.is_some() && promises.is_one_thread();
    many || promises.has_loops() || promises.shares_requests()
}

/// A client always has more input waiting than a server reads at a time: each
/// call that receives begins late, so the client sends faster. The thread that
/// reads it gives another client its turn after 64 KiB. After an urgent byte a
/// short recv doesn't mean that the socket is drained.
fn input_without_end(trial: &Trial) -> Result<()> {
    /// A recv returns 16 KiB at most, so 64 KiB are four calls. The other
    /// client has to wait for two turns, at times for three.
    const MOST: usize = 32;
    /// If this process loses its CPU, the server makes more calls meanwhile. So
    /// the median counts.
    const ROUNDS: usize = 5;

    let promises = trial.subject.promises();
    let one_thread = match promises {
        it if it.shares_requests() => "--workers 1",
        it if it.has_loops() => "--loops 1",
        _ => "",
    };
    let fault = Fault::delay(fault::RECEIVE, Duration::from_millis(1));
    let server = trial.launch().flags(one_thread).fault(&fault).start()?;
    let (mut busy, mut other) = (server.connect()?, server.connect()?);
    other.ping()?;
    busy.send("\r")?.send_urgent(b'\n')?.ping()?;
    let lines = "\r\n".repeat(1 << 20);
    busy.send(&lines)?;
    fault.on();
    let mut calls = [0; ROUNDS];
    for calls in &mut calls {
        busy.send_what_fits(lines.as_bytes())?;
        let before = fault.affected();
        other.ping()?;
        *calls = fault.affected() - before;
    }
    fault.off();
    calls.sort_unstable();
    ensure!(
        calls[ROUNDS / 2] <= MOST,
        "calls before each reply to another client: {calls:?}"
    );
    Ok(())
}

/// Three hundred clients that send nothing, or half a request, cost an active
/// client neither time nor its place in a pool.
fn silent_ones(server: &Server) -> Result<()> {
    let mut silent = server.connect_many(300)?;
    for client in silent.iter_mut().step_by(2) {
        client.send("*2\r\n$4\r\nECHO\r\n$5\r\nhe")?;
    }
    let mut client = server.connect()?;
    for _ in 0..20 {
        client.ping()?;
    }
    for (number, client) in silent.iter_mut().enumerate() {
        let name = || format!("client {number}");
        let rest = if number % 2 == 0 { "llo\r\n" } else { "PING hello\r\n" };
        client.send(rest)?.expect("$5\r\nhello\r\n").with_context(name)?;
    }
    Ok(())
}

/// 2,000 clients connect and leave, in three ways; the server must keep nothing
/// of them.
fn short_connections(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    for number in 0..2_000 {
        let mut client = server.connect()?;
        client.ping().with_context(|| format!("client {number}"))?;
        match number % 3 {
            0 => client.leave()?,
            1 => drop(client),
            _ => client.reset()?,
        }
    }
    before.again(server)?;
    server.connect()?.ping()?;
    Ok(())
}
