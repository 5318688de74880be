//! Requests that take time: they hold up the clients that the same thread
//! answers, and no others. If any free thread answers, a request holds up its
//! own client only, and much can happen before it is answered.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::process::group_cpu_time;
use lab::promises::{Answers, Promises};
use nix::sys::signal::Signal;

use super::tasks::has_own_workers;
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::groups::Resources;
use crate::server::Server;

/// The longest time that a request may take.
const LONGEST: Duration = Duration::from_secs(1);

const NOT_ALLOWED: &str = "-ERR DEBUG command not allowed: a stream to a \
    server with --enable-debug-command is required\r\n";

pub fn cases() -> Vec<Case> {
    // Models with many clients, but not those in which any free thread of a
    // pool answers.
    let one_answers =
        For::Promising(|it| it.idle_kib.is_some() && !it.shares_requests());
    let shared = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body).only(For::Promising(Promises::shares_requests))
    };
    vec![
        Case::new("work::not_allowed", not_allowed),
        Case::new("work::not_allowed_by_datagram", by_datagram),
        Case::new("work::uses_the_processor", uses_the_processor),
        Case::new("work::holds_up_the_same_thread", holds_up).only(one_answers),
        shared("work::holds_up_no_other_client", holds_up_no_other)
            .only(For::Promising(has_own_workers)),
        shared("work::replies_in_order", in_order),
        shared("work::client_resets", client_resets),
        shared("work::more_than_fit", more_than_fit).crowd(CROWD),
        shared("work::longer_than_the_idle_timeout", idle_timeout),
        shared("work::answered_at_shutdown", answered_at_shutdown),
        shared("work::second_signal", second_signal),
    ]
}

/// The number of clients with a request at the same time: more than a server
/// with a few workers has room for.
const CROWD: usize = 600;

const TWO_WORKERS: &str = "--enable-debug-command --workers 2";

fn not_allowed(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    client.send("DEBUG SLEEP 1\r\nDEBUG SPIN 1\r\n")?;
    client.expect(NOT_ALLOWED)?.expect(NOT_ALLOWED)?.ping()?;
    Ok(())
}

fn by_datagram(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let launch = trial.launch().only_udp("127.0.0.1:0");
    let server = launch.flags("--enable-debug-command").start()?;
    server.peer()?.send("DEBUG SPIN 1\r\n")?.expect(NOT_ALLOWED)?;
    Ok(())
}

fn uses_the_processor(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--enable-debug-command")?;
    let mut client = server.connect()?;
    client.ping()?;
    let before = group_cpu_time(server.pid);
    client.send("DEBUG SPIN 100000\r\n")?.expect("+OK\r\n")?.ping()?;
    let used = group_cpu_time(server.pid).saturating_sub(before);
    // The kernel counts in ticks of 10 ms.
    ensure!(used >= Duration::from_millis(80), "it used {used:?}");
    Ok(())
}

fn holds_up(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--enable-debug-command")?;
    let mut others = server.connect_many(8)?;
    let mut busy = server.connect()?;
    let tid = |client: &mut Client| client.info()?.number("tid");
    let busy_tid = tid(&mut busy)?;
    let mut checked = BTreeSet::new();
    for other in &mut others {
        let same = tid(other)? == busy_tid;
        if !checked.insert(same) {
            continue;
        }
        busy.send("DEBUG SLEEP 1\r\n")?.wait_until_arrived()?;
        let held_up = is_held_up(other)?;
        busy.expect("+OK\r\n")?;
        ensure!(
            held_up == same,
            "answered by the same thread: {same}; held up: {held_up}"
        );
    }
    Ok(())
}

/// Sends one ping after the other while another client's request takes a
/// second. Returns whether a reply took more than half of that.
fn is_held_up(client: &mut Client) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < LONGEST {
        let sent = Instant::now();
        client.ping()?;
        if sent.elapsed() > LONGEST / 2 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// While one worker processes a request, another answers the other clients,
/// also those that connect meanwhile.
fn holds_up_no_other(trial: &Trial) -> Result<()> {
    let server = trial.serve_with(TWO_WORKERS)?;
    let mut others = server.connect_many(8)?;
    let mut busy = server.connect()?;
    busy.send("DEBUG SLEEP 0.4\r\n")?.wait_until_arrived()?;
    Client::ping_all(&mut others)?;
    server.connect()?.ping()?;
    busy.expect_silence(Duration::ZERO)
        .context("it was answered before the others")?;
    busy.expect("+OK\r\n")?;
    Ok(())
}

/// The requests of one client are answered in order, however many threads are
/// free, and the server does not spin while more of them wait.
fn in_order(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--enable-debug-command --workers 4")?;
    let (mut other, mut client) = (server.connect()?, server.connect()?);
    client.ping()?;
    stays_calm(&server, || {
        // The server reads this before the other client's request, which comes
        // later.
        client.send("DEBUG SLEEP 0.3\r\nPING a\r\n")?;
        other.ping()?;
        client.send("PING b\r\n")?;
        other.ping()?;
        client.send("PING c\r\n")?.half_close()?.expect("+OK\r\n")?;
        Ok(())
    })?;
    for name in ["a", "b", "c"] {
        client.expect(format!("$1\r\n{name}\r\n"))?;
    }
    client.expect_end()?;
    Ok(())
}

/// A client resets the connection while its request is processed. Nothing of it
/// is left, the server does not spin, and the other clients are served.
fn client_resets(trial: &Trial) -> Result<()> {
    let server = trial.serve_with(TWO_WORKERS)?;
    let mut other = server.connect()?;
    other.ping()?;
    let before = Resources::of(&server)?;
    let mut busy = server.connect()?;
    busy.send("DEBUG SLEEP 0.3\r\n")?.wait_until_arrived()?;
    stays_calm(&server, || {
        busy.reset()?;
        other.ping()?;
        server.connect()?.ping()?;
        thread::sleep(Duration::from_millis(300));
        Ok(())
    })?;
    before.again(&server)?;
    other.ping()?;
    Ok(())
}

/// Checks that the server uses little processor time meanwhile, a few tenths of
/// a second. A busy loop would use most of them.
fn stays_calm(
    server: &Server,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (before, started) = (group_cpu_time(server.pid), Instant::now());
    meanwhile()?;
    let used = group_cpu_time(server.pid).saturating_sub(before);
    let took = started.elapsed();
    ensure!(
        used <= Duration::from_millis(60),
        "waiting, it used the CPU {used:?} of {took:?}"
    );
    Ok(())
}

/// Hundreds of requests arrive at once, more than the server's queue holds. All
/// are answered, the server does not spin meanwhile, and the clients can go on.
fn more_than_fit(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--enable-debug-command --workers 8")?;
    let mut clients = server.connect_many(CROWD)?;
    Client::ping_all(&mut clients)?;
    server.freeze()?;
    for client in &mut clients {
        client.send("DEBUG SLEEP 0.003\r\n")?;
    }
    Client::wait_until_all_arrived(&mut clients)?;
    stays_calm(&server, || {
        server.thaw()?;
        for (number, client) in clients.iter_mut().enumerate() {
            let name = || format!("client {number}");
            client.expect("+OK\r\n").with_context(name)?;
        }
        Ok(())
    })?;
    Client::ping_all(&mut clients)
}

/// A request that arrived in time is answered, however long that takes, and the
/// client has its whole idle timeout after the reply.
fn idle_timeout(trial: &Trial) -> Result<()> {
    let flags = "--enable-debug-command --idle-timeout 0.2";
    let server = trial.serve_with(flags)?;
    let mut client = server.connect()?;
    client.send("DEBUG SLEEP 0.4\r\n")?.expect("+OK\r\n")?.ping()?;
    let answered = Instant::now();
    client.expect_end()?;
    let took = answered.elapsed();
    ensure!(
        took >= Duration::from_millis(150),
        "closed {took:?} after a reply, not 0.2 s"
    );
    Ok(())
}

/// Requests that wait for a worker when shutdown is requested are answered.
fn answered_at_shutdown(trial: &Trial) -> Result<()> {
    let flags = format!("{TWO_WORKERS} --drain-timeout 60");
    let server = trial.serve_with(&flags)?;
    let mut clients = server.connect_served(10)?;
    for client in &mut clients {
        client.send("DEBUG SLEEP 0.08\r\n")?;
    }
    Client::wait_until_all_arrived(&mut clients)?;
    server.signal_and_wait(Signal::SIGTERM)?;
    // Where one thread receives for all, it knows what has arrived by then,
    // also if a worker has an earlier request of the client.
    if trial.subject.promises().answers == Answers::AnyWorker {
        for client in &mut clients {
            let _ = client.send("PING\r\n");
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .expect("+OK\r\n")
            .and_then(Client::expect_gone)
            .with_context(|| format!("client {number}"))?;
    }
    server.expect_exit(0)
}

/// A second signal ends the server, although all workers are busy and more
/// requests wait.
fn second_signal(trial: &Trial) -> Result<()> {
    let flags = format!("{TWO_WORKERS} --drain-timeout 60");
    let server = trial.serve_with(&flags)?;
    let mut clients = server.connect_served(4)?;
    for client in &mut clients {
        client.send("DEBUG SLEEP 1\r\n")?;
    }
    Client::wait_until_all_arrived(&mut clients)?;
    server.signal_and_wait(Signal::SIGTERM)?;
    let asked = Instant::now();
    server.terminate()?;
    server.expect_exit(1)?;
    let took = asked.elapsed();
    ensure!(took < LONGEST / 2, "the server ended after {took:?}");
    Ok(())
}
