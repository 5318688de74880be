//! What a model promises and no other does: who answers, and how many wait.
//!
//! A new model adds a line to `ANSWERS`, and cases of its own where it has
//! more to promise.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Left;
use crate::suite::PATIENCE;
use crate::suite::case::{Case, For, Trial, skip};
use crate::suite::process::{list, poll_until};

/// Who answers a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The one thread that the server consists of.
    OneThread,
    /// A process of the client's own.
    OwnProcess,
    /// A thread of the client's own.
    OwnThread,
}

const ANSWERS: &[(&str, Answer)] = &[
    ("blocking", Answer::OneThread),
    ("multiplexing-epoll", Answer::OneThread),
    ("process-per-connection", Answer::OwnProcess),
    ("thread-per-connection", Answer::OwnThread),
];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("who_answers", who_answers),
        Case::new("who_answers_fifty", fifty).only(For::Many),
        Case::new("who_answers_datagrams", datagrams),
        Case::new("second_waits_for_first", second_waits).only(For::One),
        Case::new("no_zombie_while_running", no_zombie)
            .only(For::Model("process-per-connection")),
        Case::new("one_child_killed", one_child_killed)
            .only(For::Model("process-per-connection")),
        Case::new("datagram_child_killed", datagram_child_killed)
            .only(For::Model("process-per-connection")),
    ]
}

fn answer(trial: &Trial) -> Result<Answer> {
    let name = &trial.subject.model.name;
    let found = ANSWERS.iter().find(|(model, _)| model == name);
    found.map(|(_, answer)| *answer).ok_or_else(|| {
        skip(format!("nobody has written down who answers in {name}"))
    })
}

/// One client after the other, as every model can serve them.
fn who_answers(trial: &Trial) -> Result<()> {
    let answer = answer(trial)?;
    let server = trial.serve()?;
    let ours = u64::try_from(server.pid.as_raw())?;
    for _ in 0..3 {
        let mut client = server.connect()?;
        let info = client.info()?;
        let (pid, tid) = (info.number("pid")?, info.number("tid")?);
        let as_promised = match answer {
            Answer::OneThread => pid == ours && tid == ours,
            Answer::OwnProcess => pid != ours && tid == pid,
            Answer::OwnThread => pid == ours && tid != ours,
        };
        ensure!(
            as_promised,
            "promised {answer:?}; server {ours}, answered by {pid}, {tid}"
        );
        let again = client.info()?;
        ensure!(again.number("tid")? == tid, "another one on the next request");
        drop(client);
    }
    Ok(())
}

/// Fifty at a time: as many who answer as were promised, and no more.
fn fifty(trial: &Trial) -> Result<()> {
    const CLIENTS: usize = 50;
    let answer = answer(trial)?;
    let server = trial.serve()?;
    let before = Left::of(&server)?;
    let mut clients =
        (0..CLIENTS).map(|_| server.connect()).collect::<Result<Vec<_>>>()?;
    let mut answerers = BTreeSet::new();
    let mut counted = 0;
    for client in &mut clients {
        let info = client.info()?;
        answerers.insert((info.number("pid")?, info.number("tid")?));
        counted = info.number("clients")?;
    }
    let (threads, processes, each) = match answer {
        Answer::OneThread => (1, 1, 1),
        Answer::OwnProcess => (1, 1 + CLIENTS, CLIENTS),
        Answer::OwnThread => (1 + CLIENTS, 1, CLIENTS),
    };
    let now = Left::of(&server)?;
    ensure!(answerers.len() == each, "{} have answered", answerers.len());
    ensure!(now.threads == threads, "{} threads", now.threads);
    ensure!(now.processes == processes, "{} processes", now.processes);
    for process in server.group() {
        let single = answer == Answer::OwnThread || process.threads == 1;
        ensure!(single, "{process} has more than one");
    }
    if answer == Answer::OneThread {
        ensure!(counted == CLIENTS as u64, "INFO counts {counted} clients");
    }
    drop(clients);
    before.again(&server)
}

/// Datagrams have no client to start anybody for: one answers them all.
fn datagrams(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let answer = answer(trial)?;
    let server = trial.launch().no_tcp().udp("127.0.0.1:0").start()?;
    let mut answerers = BTreeSet::new();
    for _ in 0..3 {
        let info = server.peer()?.info()?;
        answerers.insert((info.number("pid")?, info.number("tid")?));
    }
    ensure!(answerers.len() == 1, "answered by {answerers:?}");
    if answer == Answer::OneThread {
        let ours = u64::try_from(server.pid.as_raw())?;
        ensure!(answerers.contains(&(ours, ours)), "by {answerers:?}");
    }
    Ok(())
}

/// Really one at a time: the second is connected, its request has arrived,
/// and it waits as long as the first likes to stay.
fn second_waits(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let mut first = server.connect()?;
    first.ping()?;
    let mut second = server.connect()?;
    second.send("PING\r\n")?.wait_until_arrived()?;
    for _ in 0..20 {
        first.ping()?;
    }
    second.expect_silence(Duration::from_millis(100))?;
    first.ping()?;
    drop(first);
    second.expect("+PONG\r\n")?.ping()?;
    Ok(())
}

/// A child that has ended is reaped while the server does nothing else.
fn no_zombie(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let mut stays = server.connect()?;
    stays.ping()?;
    for _ in 0..20 {
        let mut clients =
            (0..5).map(|_| server.connect()).collect::<Result<Vec<_>>>()?;
        for client in &mut clients {
            client.ping()?;
        }
        // All at once: signals of one kind do not queue.
        drop(clients);
        poll_until("all children but one to be reaped", PATIENCE, || {
            Ok(server.group().len() == 2)
        })
        .with_context(|| format!("left: {}", list(&server.group())))?;
    }
    stays.ping()?;
    Ok(())
}

/// What happens to one client's process happens to no other client.
fn one_child_killed(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let (mut first, mut second) = (server.connect()?, server.connect()?);
    first.ping()?;
    let pid = second.info()?.number("pid")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
    second.expect_gone()?;
    poll_until("the killed child to be reaped", PATIENCE, || {
        Ok(server.group().len() == 2)
    })?;
    first.ping()?;
    server.connect()?.ping()?;
    Ok(())
}

/// A server without its service does not go on as if it had it.
fn datagram_child_killed(trial: &Trial) -> Result<()> {
    let server = trial.launch().udp("127.0.0.1:0").start()?;
    let mut client = server.connect()?;
    client.ping()?;
    let pid = server.peer()?.info()?.number("pid")?;
    if pid == u64::try_from(server.pid.as_raw())? {
        bail!("the parent answers datagrams itself");
    }
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
    let ended = server.wait()?.expect(1)?;
    ensure!(!ended.stderr.is_empty(), "it does not say why it has ended");
    client.expect_gone()?;
    Ok(())
}
