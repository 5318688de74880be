//! Processes that serve one client at a time: what happens when one ends, and
//! what is left of it.

use anyhow::{Context, Result, bail, ensure};
use lab::process::{list, poll_until};
use lab::promises::{Answers, Promises};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::PATIENCE;
use crate::case::{Case, For, Trial};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.answers == Answers::OwnProcess))
    };
    let forks = |it: &Promises| {
        matches!(it.answers, Answers::OwnProcess | Answers::PoolProcess)
    };
    vec![
        case("no_zombie_while_running", no_zombie),
        case("one_child_killed", one_child_killed),
        Case::new("datagram_child_killed", datagram_child_killed)
            .only(For::Promising(forks)),
    ]
}

/// A child that has ended is reaped even if the server is idle.
fn no_zombie(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let mut stays = server.connect()?;
    stays.ping()?;
    for _ in 0..20 {
        // All end at once: standard signals do not queue.
        drop(server.connect_served(5)?);
        poll_until("all children but one to be reaped", PATIENCE, || {
            Ok(server.group().len() == 2)
        })
        .with_context(|| format!("left: {}", list(&server.group())))?;
    }
    stays.ping()?;
    Ok(())
}

/// The death of one client's process affects no other client.
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

/// A server whose datagram process has died exits.
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
