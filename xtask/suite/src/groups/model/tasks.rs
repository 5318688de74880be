//! A few threads that share all clients: as many workers as requested.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lab::promises::{Promises, Reports};
use nix::errno::Errno;

use crate::case::{Case, For, Trial};
use crate::fault::{self, Fault};
use crate::groups::Resources;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("workers::as_many_as_asked", workers)
            .only(For::Promising(Promises::shares_requests)),
        Case::new("workers::one_that_dies_ends_all", one_dies)
            .only(For::Promising(has_own_workers)),
    ]
}

/// Returns whether the workers are the model's own, with one queue for all, or
/// the kernel's with oneshot reports. The workers of an edge-triggered library
/// have a queue each, in which a client may wait though another worker is free,
/// and the end of the process waits for them.
pub fn has_own_workers(promises: &Promises) -> bool {
    promises.shares_requests() && promises.reports != Some(Reports::Edge)
}

/// Counts the workers and the main thread, before any client connects and with
/// two hundred connected. Only the workers answer.
fn workers(trial: &Trial) -> Result<()> {
    for number in [1, 3, 8] {
        let flags = format!("--workers {number}");
        let server = trial.serve_with(&flags)?;
        let before = Resources::of(&server)?;
        let mut clients = server.connect_many(200)?;
        let mut answerers = BTreeSet::new();
        for client in &mut clients {
            answerers.insert(client.info()?.number("tid")?);
        }
        let now = Resources::of(&server)?;
        let threads = 1 + number;
        ensure!(
            before.threads == threads && now.threads == threads,
            "{flags}: {} threads, with clients {}",
            before.threads,
            now.threads
        );
        ensure!(answerers.len() <= number, "{flags}: {answerers:?}");
        drop(clients);
        before.again(&server).context(flags)?;
    }
    Ok(())
}

/// If a thread can't wait for events any more, its clients would wait for ever,
/// so the server must exit.
fn one_dies(trial: &Trial) -> Result<()> {
    let fault = Fault::new(fault::WAIT, Errno::EBADF);
    let server = trial.launch().fault(&fault).start()?;
    let mut clients = server.connect_served(8)?;
    fault.affect_next(1);
    // It may still be answered, by a thread that waits again afterwards.
    let _ = clients[0].send("PING\r\n");
    server.wait()?.expect(1)?.says(&["wait"])?;
    for (number, client) in clients.iter_mut().enumerate().skip(1) {
        client.expect_gone().with_context(|| format!("client {number}"))?;
    }
    Ok(())
}
