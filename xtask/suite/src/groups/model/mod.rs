//! Cases about a single promise: which thread answers, what it waits in, how
//! many clients it serves.

mod answers;
mod ceiling;
mod completions;
mod loops;
mod processes;
mod readiness;
mod signals;
mod tasks;
mod work;

use std::time::Duration;

use anyhow::Result;

use crate::case::{Case, For};
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let mut cases = answers::cases();
    cases.push(
        Case::serving("second_waits_for_first", second_waits).only(For::One),
    );
    cases.extend(readiness::cases());
    cases.extend(signals::cases());
    cases.extend(completions::cases());
    cases.extend(processes::cases());
    cases.extend(tasks::cases());
    cases.extend(loops::cases());
    cases.extend(work::cases());
    cases.extend(ceiling::cases());
    cases
}

/// Checks that the server serves one client at a time: the second is connected
/// and its request has arrived, but it waits until the first leaves.
fn second_waits(server: &Server) -> Result<()> {
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
