//! A fixed pool of workers, of which each client occupies one.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::process::poll_until;
use lab::promises::{Answers, Promises};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::next_waits;
use crate::PATIENCE;
use crate::case::{Case, For, Trial};
use crate::fault::{self, Fault};
use crate::groups::Resources;
use crate::server::Server;
use crate::skip::skip;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body).only(For::Promising(is_pool))
    };
    vec![
        case("pool::next_waits", fourth_waits),
        case("pool::workers_are_used_again", used_again),
        case("pool::silent_client_occupies_a_worker", silent_client),
        case("pool::full_accept_queue", full_accept_queue),
        case("pool::queued_client_is_answered_at_shutdown", queued_client)
            .only(For::Promising(|it| it.answers == Answers::PoolThread)),
        case("pool::failing_workers_take_turns", take_turns),
        case("pool::accept_locks", accept_locks),
    ]
}

/// Returns whether each client occupies one of a fixed number of workers.
fn is_pool(promises: &Promises) -> bool {
    matches!(promises.answers, Answers::PoolThread | Answers::PoolProcess)
}

fn fourth_waits(trial: &Trial) -> Result<()> {
    next_waits(&*trial.launch().workers(3).start()?, 3)
}

/// All workers exist before the first client, and serve the later ones too.
fn used_again(trial: &Trial) -> Result<()> {
    for number in [1, 3, 8] {
        let server = trial.launch().workers(number).start()?;
        let before = Resources::of(&server)?;
        // Threads or processes, and perhaps a thread that accepts.
        let workers = before.threads - 1 + before.processes - 1;
        let counted = (number..=number + 1).contains(&workers);
        ensure!(counted, "{number} workers: {before:?}");
        let mut answerers = BTreeSet::new();
        for _ in 0..3 {
            for client in &mut server.connect_served(number)? {
                answerers.insert(client.info()?.number("tid")?);
            }
        }
        let answered = answerers.len();
        ensure!(answered == number, "{number} workers: {answered} answered");
        before.again(&server)?;
    }
    Ok(())
}

/// A client that sends nothing occupies its worker until the idle timeout.
fn silent_client(trial: &Trial) -> Result<()> {
    let launch = trial.launch().workers(1).flags("--idle-timeout 0.5");
    let server = launch.start()?;
    let mut silent = server.connect()?;
    let mut next = server.connect()?;
    next.send("PING\r\n")?.expect_silence(Duration::from_millis(200))?;
    next.expect("+PONG\r\n")?;
    silent.expect_end()?;
    Ok(())
}

/// When the accept queue and the model's own queue are full, connection
/// requests are dropped, and no client is rejected. A client sends its request
/// again, so it is connected once there is room.
fn full_accept_queue(trial: &Trial) -> Result<()> {
    const MOMENT: Duration = Duration::from_millis(300);
    const LONGEST: usize = 64;

    let server = trial.launch().workers(1).flags("--backlog 2").start()?;
    let mut first = server.connect()?;
    first.ping()?;
    let address = server.tcp()?;
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, MOMENT) {
        waiting.push(stream);
        ensure!(waiting.len() <= LONGEST, "more than {LONGEST} clients wait");
    }
    ensure!(waiting.len() >= 2, "{} clients wait", waiting.len());
    first.ping()?;
    first.leave()?;
    drop(waiting);
    server.connect()?.ping()?;
    Ok(())
}

/// A client that was accepted, and waits in the model's own queue when shutdown
/// is requested, is answered like all others.
fn queued_client(trial: &Trial) -> Result<()> {
    let server = trial.launch().workers(1).start()?;
    let mut first = server.connect()?;
    first.ping()?;
    let process = server.process()?;
    let before = process.descriptors();
    let mut next = server.connect()?;
    next.send("PING\r\n")?.wait_until_arrived()?;
    let accepted = poll_until("accept", Duration::from_secs(1), || {
        Ok(process.descriptors() > before)
    });
    ensure!(accepted.is_ok(), skip("clients wait in the accept queue only"));
    server.terminate()?;
    next.expect("+PONG\r\n")?.expect_end()?;
    first.expect_end()?;
    server.expect_exit(0)
}

/// While accept fails for all workers, they don't try more often together than
/// one thread would: every 100 ms, once each has failed.
fn take_turns(trial: &Trial) -> Result<()> {
    const WORKERS: usize = 20;

    let fault = Fault::new(fault::ACCEPT, Errno::ENOMEM);
    fault.on();
    let server = trial.launch().workers(WORKERS).fault(&fault).start()?;
    poll_until("accept to fail for each worker", PATIENCE, || {
        Ok(fault.affected() >= WORKERS)
    })?;
    let (before, window) = (fault.affected(), Duration::from_millis(500));
    thread::sleep(window);
    let tried = fault.affected() - before;
    ensure!(tried <= 10, "tried {tried} times within {window:?}");
    fault.off();
    server.connect()?.ping()?;
    Ok(())
}

/// Each lock that makes sense for the model excludes all workers but one, and
/// any other is rejected.
fn accept_locks(trial: &Trial) -> Result<()> {
    let locks = &trial.subject.promises().accept_locks;
    for lock in ["file", "mutex"] {
        if locks.iter().any(|it| it == lock) {
            excludes(trial, lock).with_context(|| lock.to_owned())?;
            continue;
        }
        let launch = trial.launch().flags(&format!("--accept-lock {lock}"));
        launch.run()?.expect(2)?.says(&["--accept-lock"])?;
    }
    Ok(())
}

/// One idle worker waits in accept, and the others wait for the lock. If it is
/// killed, the next one gets the lock. Shutdown ends all of them.
fn excludes(trial: &Trial, lock: &str) -> Result<()> {
    const WORKERS: usize = 4;

    let flags = format!("--accept-lock {lock} --drain-timeout 60");
    let server = trial.launch().workers(WORKERS).flags(&flags).start()?;
    one_accepts(&server, WORKERS)?;
    let clients = server.connect_served(WORKERS - 1)?;
    let last = one_accepts(&server, 1)?;
    drop(clients);
    if trial.subject.promises().answers == Answers::PoolProcess {
        one_accepts(&server, WORKERS)?;
        kill(last, Signal::SIGKILL)?;
        // Until then it might still accept a client.
        server.stderr.wait_for("was killed by SIGKILL")?;
    }
    server.connect_served(WORKERS - 1)?;
    server.terminate()?;
    server.expect_exit(0)
}

/// Waits until this many workers are idle, and returns the thread or process
/// that waits in accept. There must be one.
fn one_accepts(server: &Server, idle: usize) -> Result<Pid> {
    const ACCEPT: &[i64] = &[libc::SYS_accept4];
    const LOCK: &[i64] = &[libc::SYS_futex, libc::SYS_fcntl];

    let mut accepting = Vec::new();
    poll_until("idle workers", PATIENCE, || {
        let (mut accept, mut lock) = (Vec::new(), Vec::new());
        for process in server.group() {
            let threads = process.threads_in(ACCEPT);
            accept.extend(threads.map_err(|error| skip(format!("{error:#}")))?);
            lock.extend(process.threads_in(LOCK)?);
        }
        let waiting = accept.len() + lock.len();
        accepting = accept;
        Ok(waiting == idle)
    })?;
    let [tid] = accepting[..] else {
        bail!("{} of {idle} workers are in accept", accepting.len());
    };
    Ok(Pid::from_raw(tid.try_into()?))
}
