//! A few threads that share all clients: as many workers as requested.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lab::promises::Promises;

use crate::case::{Case, For, Trial};
use crate::groups::Resources;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("workers::as_many_as_asked", workers)
            .only(For::Promising(Promises::shares_requests)),
    ]
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
