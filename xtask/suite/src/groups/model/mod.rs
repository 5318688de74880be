//! Cases about a single promise: which thread answers, what it waits in, how
//! many clients it serves.

mod answers;
mod ceiling;
mod completions;
mod hand_over;
mod loops;
mod pool;
mod prefork;
mod processes;
mod readiness;
mod signals;
mod tasks;
mod work;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::case::{Case, For};
use crate::client::Client;
use crate::server::Server;

/// The number of clients that connect and send at the same time.
const AT_A_TIME: usize = 64;

pub fn cases() -> Vec<Case> {
    let mut cases = answers::cases();
    cases.push(
        Case::serving("second_waits_for_first", |it| next_waits(it, 1))
            .only(For::One),
    );
    cases.extend(readiness::cases());
    cases.extend(signals::cases());
    cases.extend(completions::cases());
    cases.extend(processes::cases());
    cases.extend(tasks::cases());
    cases.extend(loops::cases());
    cases.extend(hand_over::cases());
    cases.extend(pool::cases());
    cases.extend(prefork::cases());
    cases.extend(work::cases());
    cases.extend(ceiling::cases());
    cases
}

/// Checks that the server serves this many clients at a time: the next one is
/// connected and its request has arrived, but it waits until another leaves.
fn next_waits(server: &Server, clients: usize) -> Result<()> {
    let mut served = Vec::new();
    let all = server.bring(&mut served, clients, AT_A_TIME)?;
    ensure!(all, "only {} clients are served", served.len());
    let mut next = server.connect()?;
    next.send("PING\r\n")?.wait_until_arrived()?;
    for _ in 0..20 {
        served[0].ping()?;
    }
    next.expect_silence(Duration::from_millis(100))?;
    Client::ping_all(&mut served)?;
    served.pop();
    next.expect("+PONG\r\n")?.ping()?;
    Ok(())
}
