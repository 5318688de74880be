//! Requests that take time: they hold up the clients that the same thread
//! answers, and no others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::process::group_cpu_time;

use crate::case::{Case, For, Trial};
use crate::client::Client;

/// The longest time that a request may take.
const LONGEST: Duration = Duration::from_secs(1);

const NOT_ALLOWED: &str = "-ERR DEBUG command not allowed: a stream to a \
    server with --enable-debug-command is required\r\n";

pub fn cases() -> Vec<Case> {
    // Models with many clients, but not those in which any free thread of a
    // pool answers.
    let one_answers =
        For::Promising(|it| it.idle_kib.is_some() && !it.shares_requests());
    vec![
        Case::new("work::not_allowed", not_allowed),
        Case::new("work::not_allowed_by_datagram", by_datagram),
        Case::new("work::uses_the_processor", uses_the_processor),
        Case::new("work::holds_up_the_same_thread", holds_up).only(one_answers),
    ]
}

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
