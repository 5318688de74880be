//! A fixed pool of processes: what happens when one dies.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::process::{Process, list, poll_until};
use lab::promises::Answers;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::PATIENCE;
use crate::case::{Case, For, Trial};
use crate::fault::{self, Fault};
use crate::groups::Resources;
use crate::load::Load;
use crate::server::Server;

/// A worker that has died is started again this long after its last start, at
/// the earliest.
const INTERVAL: Duration = Duration::from_secs(1);

/// The error of a comparison of two starts, which the kernel gives in ticks of
/// 10 ms.
const ERROR: Duration = Duration::from_millis(20);

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.answers == Answers::PoolProcess))
    };
    vec![
        case("prefork::killed_worker", killed_worker),
        case("prefork::restart_interval", restart_interval),
        case("prefork::no_process_for_a_worker", no_process),
    ]
}

/// Returns the worker processes, zombies included.
fn workers(server: &Server) -> Vec<Process> {
    let mut processes = server.group();
    processes.retain(|process| process.pid != server.pid);
    processes
}

fn kill_worker(worker: &Process) -> Result<()> {
    kill(worker.pid, Signal::SIGKILL).context("killing a worker")
}

/// A worker that is killed cuts off its own client and no other one, its client
/// no longer counts, and another worker takes its place.
fn killed_worker(trial: &Trial) -> Result<()> {
    const BUSY: usize = 8;
    const WORKERS: usize = BUSY + 2;

    let limit = format!("--max-connections {}", BUSY + 1);
    let launch = trial.launch().workers(WORKERS);
    let server = launch.flags(&limit).start()?;
    let before = Resources::of(&server)?;
    let load = Load::start(server.tcp()?, BUSY)?;
    let mut victim = server.wait_for_place()?;
    let pid = victim.info()?.number("pid")?;
    let pid = Pid::from_raw(pid.try_into()?);
    kill(pid, Signal::SIGKILL)?;
    victim.expect_gone()?;
    // There is room for one more client, and not for two.
    let mut other = server.wait_for_place()?;
    let clients = other.info()?.number("clients")?;
    ensure!(clients == BUSY as u64 + 1, "INFO counts {clients} clients");
    let more = server.admitted(1)?.len();
    ensure!(more == 0, "another client was served");
    poll_until("another worker", PATIENCE, || {
        let workers = workers(&server);
        let alive = workers.iter().filter(|it| it.state != 'Z').count();
        Ok(alive == WORKERS && workers.len() == WORKERS)
    })
    .with_context(|| format!("there are {}", list(&server.group())))?;
    other.ping()?;
    other.leave()?;
    load.leave()?;
    before.again(&server)
}

/// A worker that dies soon after its start is started again later. One that has
/// lived longer is replaced at once.
fn restart_interval(trial: &Trial) -> Result<()> {
    let server = trial.launch().workers(2).start()?;
    let first = workers(&server);
    ensure!(first.len() == 2, "{}", list(&first));
    kill_worker(&first[0])?;
    server.stderr.wait_for("was killed by SIGKILL")?;
    let second = new_worker(&server, &first)?;
    let after = second.started.saturating_sub(first[0].started);
    ensure!(after + ERROR >= INTERVAL, "started again after {after:?}");

    kill_worker(&second)?;
    kill_worker(&first[1])?;
    let known = [&first[..], std::slice::from_ref(&second)].concat();
    let third = new_worker(&server, &known)?;
    let after = third.started.saturating_sub(second.started);
    ensure!(after < INTERVAL / 2, "replaced only after {after:?}");
    // The second one would have been started again by now.
    thread::sleep(INTERVAL / 10);
    let workers = workers(&server);
    ensure!(workers.len() == 1, "there are {}", list(&workers));
    server.connect()?.ping()?;
    Ok(())
}

/// While fork fails, the server goes on with the workers that it has, and tries
/// again once in an interval.
fn no_process(trial: &Trial) -> Result<()> {
    let fault = Fault::new(fault::CLONE, Errno::EAGAIN);
    let server = trial.launch().workers(2).fault(&fault).start()?;
    fault.on();
    let first = workers(&server);
    kill_worker(&first[0])?;
    server.stderr.wait_for("fork: EAGAIN")?;
    let mut client = server.connect()?;
    client.ping()?;
    fault.off();
    let second = new_worker(&server, &first)?;
    let after = second.started.saturating_sub(first[0].started);
    ensure!(after + ERROR >= 2 * INTERVAL, "started after {after:?}");
    let tried = fault.affected();
    ensure!(tried == 1, "fork failed {tried} times");
    client.ping()?;
    Ok(())
}

/// Waits for a worker that is not known yet.
fn new_worker(server: &Server, known: &[Process]) -> Result<Process> {
    let mut found = None;
    poll_until("another worker", PATIENCE, || {
        let is_new = |it: &Process| known.iter().all(|old| old.pid != it.pid);
        found = workers(server).into_iter().find(is_new);
        Ok(found.is_some())
    })?;
    found.context("no other worker")
}
