//! Operations that the kernel completes: when it refuses them, and when there
//! is no room for completions.

use anyhow::{Context, Result, anyhow, ensure};
use lab::Unsupported;
use lab::process::limit_signals;
use lab::promises::WaitsIn;
use nix::errno::Errno;

use crate::bytes::{echo, payload};
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::fault::{self, Fault};
use crate::groups::Resources;
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let ring = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.waits_in == WaitsIn::IoUringEnter))
    };
    let aio = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.waits_in == WaitsIn::Aio))
    };
    vec![
        ring("ring::refused", refused),
        ring("ring::many_clients_at_once", many_at_once),
        ring("ring::more_input_than_buffers", few_buffers),
        ring("ring::buffers_of_older_kernels", older_kernel),
        aio("pool::hundred_idle_clients", hundred_idle),
        // The limit is per user, so no other process may have signals queued.
        aio("queue::short_queue", short_queue).alone(),
        aio("queue::lost_completions", lost_completions),
    ]
}

/// If no ring can be created, the server says why and what would help.
fn refused(trial: &Trial) -> Result<()> {
    // A filter denies it, not the sysctl; the message must distinguish them.
    for (errno, name) in [(Errno::EPERM, "EPERM"), (Errno::ENOSYS, "ENOSYS")] {
        let fault = Fault::new(fault::RING, errno);
        fault.on();
        trial
            .launch()
            .fault(&fault)
            .run()
            .and_then(|ended| {
                let ended = ended.expect(Unsupported::CODE)?;
                ended.says(&["io_uring_setup", name, "seccomp"])
            })
            .with_context(|| format!("with {name}"))?;
    }
    Ok(())
}

/// In one round so many clients are accepted that the receives of the last ones
/// are left for the next round, which must not wait for anything else.
fn many_at_once(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    server.freeze()?;
    let mut clients = server.connect_many(300)?;
    server.thaw()?;
    clients[299].ping().context("the last of 300 clients")?;
    Ok(())
}

/// Six million bytes arrive at once; the buffers hold half a million at most.
fn few_buffers(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    exhaust(&server)
}

/// The kernel refuses buffers that are filled incrementally, as it does before
/// Linux 6.12 (io_uring_setup_buf_ring(3)). As much input as in `few_buffers`
/// is then received in other buffers.
fn older_kernel(trial: &Trial) -> Result<()> {
    let fault = Fault::new(fault::PROVIDE_BUFFERS, Errno::EINVAL);
    fault.affect_next(1);
    // A server that ends with "unsupported" has failed here, and is no reason
    // to skip the case.
    let started = trial.launch().fault(&fault).start();
    let server = started.map_err(|error| anyhow!("{error:#}"))?;
    ensure!(fault.affected() == 1, "the server provides no buffers");
    exhaust(&server)
}

fn exhaust(server: &Server) -> Result<()> {
    let mut clients = server.connect_many(300)?;
    for round in 0..3 {
        let words = |number| echo(payload(1_000 * round + number, 20_000));
        server.freeze()?;
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(words(number).0)?;
        }
        Client::wait_until_all_arrived(&mut clients)?;
        server.thaw()?;
        for (number, client) in clients.iter_mut().enumerate() {
            client
                .expect(words(number).1)
                .with_context(|| format!("client {number}, round {round}"))?;
        }
    }
    Ok(())
}

/// glibc's pool has 20 threads by default, and each idle client occupies one.
fn hundred_idle(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let mut idle = server.connect_many(100)?;
    for client in idle.iter_mut().step_by(2) {
        client.ping()?;
    }
    let mut client = server.connect()?;
    for _ in 0..20 {
        client.ping().context("beside a hundred idle clients")?;
    }
    Client::ping_all(&mut idle)
}

/// A completion that finds no room in the signal queue would be lost. So the
/// server admits no more clients than the queue has places, less those taken by
/// other processes of the user, and serves all that it admits.
fn short_queue(trial: &Trial) -> Result<()> {
    const PLACES: usize = 120;

    let server = trial.launch().signals_pending(PLACES as u64).start()?;
    let mut served = server.admitted(PLACES + 20)?;
    let count = served.len();
    ensure!((5..=PLACES).contains(&count), "{PLACES} places, {count} clients");
    for round in 0..3 {
        server.freeze()?;
        for client in &mut served {
            client.send("PING\r\n".repeat(10))?;
        }
        Client::wait_until_all_arrived(&mut served)?;
        server.thaw()?;
        for client in &mut served {
            client
                .expect("+PONG\r\n".repeat(10))
                .with_context(|| format!("round {round}"))?;
        }
    }
    Ok(())
}

/// If others have used up the places, completions are lost nevertheless. A
/// client that waits for one is answered or disconnected, none waits forever,
/// and afterwards everything is as before.
fn lost_completions(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let before = Resources::of(&server)?;
    let mut clients = server.connect_served(10)?;
    let limit = limit_signals(server.pid, 0)?;
    for client in &mut clients {
        client.send("PING\r\n")?;
    }
    let mut lost = 0;
    for (number, client) in clients.iter_mut().enumerate() {
        let name = || format!("client {number}");
        if client.expect("+PONG\r\n").is_err() {
            client.expect_gone().with_context(name)?;
            lost += 1;
        }
    }
    ensure!(lost > 0, "no completion was lost: this shows nothing");
    limit_signals(server.pid, limit)?;
    drop(clients);
    server.connect()?.ping()?.ping()?;
    before.again(&server)
}
