//! Each model's client limit: how many clients it holds when descriptors are
//! scarce, and why the next one is rejected. The manifest declares both.

use anyhow::{Context, Result, bail, ensure};
use lab::promises::{Ceiling, DESCRIPTORS, NEXT_WAITS, Promises, WaitsIn};

use super::next_waits;
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::groups::Resources;
use crate::server::Server;
use crate::skip::skip;

/// More clients than there are descriptors.
const TOO_MANY: usize = DESCRIPTORS + 64;

/// The number of clients that connect and send at the same time: a model that
/// scans all clients for each event would otherwise take long. The last ones
/// connect one by one, so that each meets an idle server.
const AT_A_TIME: usize = 64;
const LAST: usize = 128;

/// Enough clients, or workers, for a model that only the machine limits. With
/// `--record`, all that are declared connect.
const ENOUGH: usize = 1_000;

pub fn cases() -> Vec<Case> {
    vec![
        // glibc does not report that it has no thread for an operation. On a
        // busy machine the model may wait for one too long, and reject a
        // client.
        Case::new("ceiling", many)
            .only(For::Promising(Promises::rejects_the_next))
            .crowd(TOO_MANY)
            .alone_for(|it| it.waits_in == WaitsIn::Aio),
        Case::new("ceiling", few)
            .only(For::Promising(|it| !it.rejects_the_next()))
            .crowd(TOO_MANY),
    ]
}

fn many(trial: &Trial) -> Result<()> {
    let limit = DESCRIPTORS as u64;
    let Ceiling { machine, flags, .. } =
        trial.subject.promises().ceiling.clone();
    let server = trial
        .launch()
        .descriptors(limit, limit)
        .flags("--max-connections 100000")
        .flags(flags.as_deref().unwrap_or_default())
        .start()?;
    let enough = machine.is_some() && !trial.surroundings.records;
    let before = Resources::of(&server)?;
    let wanted = if enough { ENOUGH } else { TOO_MANY };
    let mut served = Vec::new();
    let first = wanted.min(DESCRIPTORS - LAST);
    let refused = !(server.bring(&mut served, first, AT_A_TIME)?
        && server.bring(&mut served, wanted, 1)?);
    let clients = served.len();
    let ends = match (&machine, refused) {
        (Some(_), false) => "EAGAIN".to_owned(),
        (Some(machine), true) => {
            return Err(skip(format!(
                "this machine's limit is {clients} clients: {machine}"
            )));
        }
        (None, true) => why_refused(&server)?,
        (None, false) => bail!("all {TOO_MANY} clients are served"),
    };
    // All are still served, and as many after one leaves and another comes.
    Client::ping_all(&mut served).context("pinged once more")?;
    if let Some(client) = served.pop() {
        client.leave()?;
        served.push(server.wait_for_place()?);
    }
    drop(served);
    before.again(&server)?;
    compare(trial, Ceiling { clients, ends, machine, flags })
}

/// Returns the reason why connections are rejected, as the server logs it.
fn why_refused(server: &Server) -> Result<String> {
    let said = server.stderr.wait_for("connection rejected: ")?;
    let (_, why) =
        said.split_once("connection rejected: ").context("no reason")?;
    let words = || why.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_errno = |word: &&str| {
        word.len() > 2
            && word.starts_with('E')
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_numeric())
    };
    if words().any(|word| word == "FD_SETSIZE") {
        return Ok("FD_SETSIZE".to_owned());
    }
    if let Some(errno) = words().find(is_errno) {
        return Ok(errno.to_owned());
    }
    let open = server.process()?.descriptors();
    if why.contains("no descriptor is left") && open + 1 >= DESCRIPTORS {
        return Ok("EMFILE".to_owned());
    }
    bail!("it has {open} descriptors, and rejects clients: {why}")
}

/// One client at a time is a limit, too, and so is the number of workers.
fn few(trial: &Trial) -> Result<()> {
    let limit = DESCRIPTORS as u64;
    let Ceiling { mut clients, machine, .. } =
        trial.subject.promises().ceiling.clone();
    let mut launch = trial.launch().descriptors(limit, limit);
    if machine.is_some() {
        if !trial.surroundings.records {
            clients = clients.min(ENOUGH);
        }
        launch = launch.workers(clients);
    }
    next_waits(&*launch.start()?, clients)?;
    let ends = NEXT_WAITS.to_owned();
    compare(trial, Ceiling { clients, ends, machine, flags: None })
}

fn compare(trial: &Trial, mut seen: Ceiling) -> Result<()> {
    let promised = &trial.subject.promises().ceiling;
    if seen.machine.is_some() && !trial.surroundings.records {
        seen.clients = seen.clients.max(promised.clients);
    }
    ensure!(
        seen == *promised,
        "promised: {promised}; seen: {seen}; if that is intended, declare \
         in the manifest: {}",
        seen.declaration()
    );
    Ok(())
}
