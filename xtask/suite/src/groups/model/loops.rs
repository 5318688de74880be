//! Several event loops: each has its share of the clients and a CPU of its own,
//! and if one fails all end.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Context, Result, ensure};
use lab::process::allowed_processors;
use lab::promises::Answers;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::fault::{self, Fault};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.answers == Answers::OneLoop))
    };
    vec![
        case("loops::share_a_thousand_clients", share).crowd(1_000),
        case("loops::one_that_dies_ends_all", one_dies),
        case("loops::stay_on_their_processors", processors),
    ]
}

/// The kernel distributes connections by a hash of their addresses. The mean is
/// 250 clients per loop; a loop gets less than half of that by chance once in
/// 10^19 runs (nine standard deviations).
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
    let numbers: Vec<_> = shares.keys().map(|(number, _)| *number).collect();
    ensure!(numbers == [0, 1, 2, 3], "answered by {shares:?}");
    ensure!(counted == CLIENTS as u64, "INFO counts {counted} clients");
    let spread: Vec<_> = shares.values().map(usize::to_string).collect();
    let spread = spread.join(", ");
    let least = CLIENTS / LOOPS / 2;
    ensure!(shares.values().all(|share| *share >= least), "{spread}");
    Client::ping_all(&mut clients)
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
        for tid in server.process()?.thread_ids() {
            let tid = Pid::from_raw(tid.try_into()?);
            let allowed = allowed_processors(server.pid, tid)?;
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
