//! Several event loops: each has its share of the clients and a CPU of its own,
//! and if one fails all end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;
use std::{io, mem, thread};

use anyhow::{Context, Result, bail, ensure};
use lab::process::{Process, allowed_processors, poll_until};
use lab::promises::{Answers, Promises};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::PATIENCE;
use crate::bytes::unknowns;
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::fault::{self, Fault};
use crate::groups::limits::expect_rest_for;
use crate::server::Server;

const TWO_LOOPS: &str = "--loops 2 --enable-debug-command";

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body).only(For::Promising(Promises::has_loops))
    };
    // The kernel prefers loops that wait.
    let waiting = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body).only(For::Promising(|it| it.uneven.is_some()))
    };
    vec![
        case("loops::share_a_thousand_clients", share).crowd(1_000),
        case("loops::one_connection_wakes_one_loop", wakes_one),
        case("loops::shutdown_while_one_accepts", while_accepting),
        case("loops::busy_loop_accepts_several", accepts_several),
        waiting("loops::busy_loop_is_passed_over", busy_loop),
        waiting("loops::busy_loops_share_what_waits", busy_loops),
        waiting("loops::drain_beside_a_busy_loop", drains_beside_busy_loop),
        waiting("loops::shutdown_resets_the_accept_queue", accept_queue),
        Case::new("loops::one_that_dies_ends_all", one_dies)
            .only(For::Promising(|it| it.answers == Answers::OneLoop)),
        case("loops::stay_on_their_processors", processors),
    ]
}

/// All loops count clients together, and unless the model says otherwise they
/// get equal numbers. Where the kernel distributes connections by a hash of
/// their addresses, the mean is 250 clients per loop; a loop gets less than
/// half of that by chance once in 10^19 runs (nine standard deviations).
fn share(trial: &Trial) -> Result<()> {
    const CLIENTS: usize = 1_000;
    const LOOPS: usize = 4;

    let flags = format!("--loops {LOOPS}");
    let server = trial.serve_with(&flags)?;
    let mut clients = server.connect_many(CLIENTS)?;
    let mut shares = BTreeMap::new();
    let mut counted = 0;
    for client in &mut clients {
        let info = client.info()?;
        let answered = (info.number("loop")?, info.number("tid")?);
        *shares.entry(answered).or_insert(0) += 1;
        counted = info.number("clients")?;
    }
    ensure!(counted == CLIENTS as u64, "INFO counts {counted} clients");
    let numbers: Vec<_> = shares.keys().map(|(number, _)| *number).collect();
    if trial.subject.promises().uneven.is_none() {
        ensure!(numbers == [0, 1, 2, 3], "answered by {shares:?}");
        let spread: Vec<_> = shares.values().map(usize::to_string).collect();
        let spread = spread.join(", ");
        let least = CLIENTS / LOOPS / 2;
        ensure!(shares.values().all(|share| *share >= least), "{spread}");
    }
    Client::ping_all(&mut clients)
}

/// A new client and its request wake the loop that serves it, not all loops.
fn wakes_one(trial: &Trial) -> Result<()> {
    const LOOPS: usize = 8;
    const CLIENTS: usize = 20;

    let server = trial.serve_with(&format!("--loops {LOOPS}"))?;
    // Each loop has begun to wait.
    server.connect()?.ping()?;
    let settled = || {
        let mut last = 0;
        poll_until("all loops to wait", PATIENCE, || {
            // The loops may be processes.
            let processes = server.group();
            let waits = processes.iter().map(Process::waits);
            let waits = waits.sum::<Result<usize>>()?;
            Ok(mem::replace(&mut last, waits) == waits)
        })?;
        anyhow::Ok(last)
    };
    let before = settled()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect()?;
        client.ping()?;
        clients.push(client);
        settled()?;
    }
    let waits = settled()? - before;
    // Once for the connection and once for the request, or for both.
    ensure!(waits <= 4 * CLIENTS, "{waits} waits for {CLIENTS} clients");
    Ok(())
}

/// While one loop is busy, another accepts all new clients.
fn busy_loop(trial: &Trial) -> Result<()> {
    let server = trial.serve_with(TWO_LOOPS)?;
    let (mut busy, number) = busy_for(&server, "0.3")?;
    for other in &mut server.connect_many(8)? {
        let accepts = other.info()?.number("loop")?;
        ensure!(accepts != number, "a client waited for loop {number}");
    }
    busy.expect("+OK\r\n")?;
    Ok(())
}

/// If clients wait until a loop is free, it accepts some and not all of them,
/// so that a loop that becomes free soon has its share.
fn busy_loops(trial: &Trial) -> Result<()> {
    const WAITING: usize = 40;

    let server = trial.serve_with(TWO_LOOPS)?;
    let (_first, one) = busy_for(&server, "0.3")?;
    let (_second, two) = busy_for(&server, "0.4")?;
    ensure!(one != two, "loop {one} serves both");
    let mut waiting = server.connect_many(WAITING)?;
    for client in &mut waiting {
        client.send("DEBUG SLEEP 0.008\r\n")?;
    }
    let mut shares = [0; 2];
    for client in &mut waiting {
        client.expect("+OK\r\n")?;
        let number: usize = client.info()?.number("loop")?.try_into()?;
        shares[number] += 1;
    }
    ensure!(shares.iter().all(|it| *it >= WAITING / 8), "shares: {shares:?}");
    Ok(())
}

/// A busy loop accepts several connections in a round, because otherwise each
/// new client would wait for a round of the busy ones.
fn accepts_several(trial: &Trial) -> Result<()> {
    const BUSY: usize = 4;
    const NEW: usize = 40;
    // Half as many rounds as there are new clients.
    const MOST: usize = BUSY * NEW / 2;

    let server = trial.serve_with("--loops 1 --enable-debug-command")?;
    let mut busy = server.connect_served(BUSY)?;
    let (answers, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers = thread::scope(|scope| {
        // While one of them is answered, the others send again.
        let busy = scope.spawn(|| -> Result<()> {
            let request = "DEBUG SLEEP 0.004\r\n";
            for client in &mut busy {
                client.send(request)?;
            }
            while !is_over.load(Relaxed) {
                for client in &mut busy {
                    client.expect("+OK\r\n")?.send(request)?;
                    answers.fetch_add(1, Relaxed);
                }
            }
            Ok(())
        });
        let took = poll_until("the loop to be busy", PATIENCE, || {
            Ok(answers.load(Relaxed) >= BUSY || busy.is_finished())
        })
        .and_then(|()| {
            let before = answers.load(Relaxed);
            Client::ping_all(&mut server.connect_many(NEW)?)?;
            Ok(answers.load(Relaxed) - before)
        });
        is_over.store(true, Relaxed);
        let Ok(ended) = busy.join() else { bail!("a thread panicked") };
        ended.and(took)
    })?;
    ensure!(answers <= MOST, "{answers} others before {NEW} new clients");
    Ok(())
}

/// A loop that drains does not spin while another is too busy to begin.
fn drains_beside_busy_loop(trial: &Trial) -> Result<()> {
    let server = trial.serve_with(TWO_LOOPS)?;
    let (mut busy, _) = busy_for(&server, "0.4")?;
    let mut deaf = Client::with_small_window(server.tcp()?)?;
    // Their replies exceed the window.
    let (requests, replies) = unknowns(300);
    deaf.ping()?.send(&requests)?.wait_until_arrived()?;
    server.terminate()?;
    expect_rest_for(&server, Duration::from_millis(300))?;
    busy.expect("+OK\r\n")?;
    deaf.expect(replies)?.expect_end()?;
    server.expect_exit(0)
}

/// When shutdown is requested, connections that no loop has accepted yet are
/// reset at once, even if all loops are busy.
fn accept_queue(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--loops 1 --enable-debug-command")?;
    let (mut busy, _) = busy_for(&server, "0.3")?;
    let mut waiting = server.connect()?;
    server.terminate()?;
    waiting.expect_gone()?;
    busy.expect_silence(Duration::from_millis(50))?;
    busy.expect("+OK\r\n")?.expect_end()?;
    server.expect_exit(0)
}

/// Connects a client, and keeps its loop busy for this many seconds. Returns
/// the loop's number.
fn busy_for(server: &Server, seconds: &str) -> Result<(Client, u64)> {
    let mut client = server.connect()?;
    let number = client.info()?.number("loop")?;
    let request = format!("DEBUG SLEEP {seconds}\r\n");
    client.send(request)?.wait_until_arrived()?;
    Ok((client, number))
}

/// Shutdown is requested while a loop is about to accept.
fn while_accepting(trial: &Trial) -> Result<()> {
    let late = Fault::delay(fault::ACCEPT, Duration::from_millis(100));
    let server = trial.launch().fault(&late).start()?;
    server.connect()?.ping()?;
    late.affect_next(1);
    let mut client = server.connect()?;
    poll_until("accept", PATIENCE, || Ok(late.affected() > 0))?;
    server.terminate()?;
    client.expect_gone()?;
    server.expect_exit(0)
}

/// A loop that can't wait any more would keep its share of the connections and
/// serve none, so the server must exit.
fn one_dies(trial: &Trial) -> Result<()> {
    let fault = Fault::new(fault::WAIT, Errno::EBADF);
    let server = trial.launch().flags("--loops 4").fault(&fault).start()?;
    let mut clients = server.connect_served(20)?;
    fault.affect_next(1);
    // The client's loop wakes up and may answer, unless another loop waits
    // first.
    let _ = clients[0].send("PING\r\n");
    server.wait()?.expect(1)?.says(&["loop", "wait"])?;
    for (number, client) in clients.iter_mut().enumerate().skip(1) {
        client.expect_gone().with_context(|| format!("client {number}"))?;
    }
    Ok(())
}

/// There is one loop per CPU that the process may use, each on its own CPU.
fn processors(trial: &Trial) -> Result<()> {
    let ours = allowed_processors(Pid::this(), Pid::this())?;
    for count in [1, 2] {
        let launch = trial.launch();
        let server =
            launch.inheriting(move || keep_processors(count)).start()?;
        let kept: Vec<_> = ours.iter().copied().take(count).collect();
        let mut used = Vec::new();
        let mut tids = Vec::new();
        for process in server.group() {
            let pid = process.pid;
            tids.extend(process.thread_ids().iter().map(|tid| (pid, *tid)));
        }
        for (pid, tid) in tids {
            let tid = Pid::from_raw(tid.try_into()?);
            let allowed = allowed_processors(pid, tid)?;
            if tid == server.pid {
                ensure!(allowed == kept, "the first thread is on {allowed:?}");
            } else {
                ensure!(allowed.len() == 1, "a loop is on {allowed:?}");
                used.extend(allowed);
            }
        }
        used.sort_unstable();
        ensure!(used == kept, "allowed on {kept:?}, loops are on {used:?}");
        server.connect()?.ping()?;
    }
    Ok(())
}

/// Restricts the process to the first `count` of its CPUs.
fn keep_processors(count: usize) -> io::Result<()> {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut kept = CpuSet::new();
    let allowed = |number: &usize| all.is_set(*number).unwrap_or(false);
    for number in (0..CpuSet::count()).filter(allowed).take(count) {
        kept.set(number)?;
    }
    Ok(sched_setaffinity(this, &kept)?)
}
