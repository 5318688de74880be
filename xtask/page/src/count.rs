//! System calls a request: a longer run under the tracer, with the load
//! generator as its client.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::model::{Transport, Variant};
use load::closed::Closed;
use load::request::Request;
use load::{Script, connection};
use trace::count::Tally;
use trace::scene;

/// How long the server has to come to rest once everybody is connected: no
/// event is kept that would tell.
const REST: Duration = Duration::from_millis(50);

/// Starts a server under the tracer and asks it for so long, on so many
/// connections, each of which sends a request when it has the reply to the
/// last. Every reply is checked.
pub fn measure(
    program: &Path,
    variant: &Variant,
    connections: usize,
    span: Duration,
) -> Result<Tally> {
    let mut tracee = scene::start(program, &variant.args, Transport::Tcp)?;
    let address = match scene::ready(&mut tracee, Transport::Tcp) {
        Ok(address) => address,
        Err(error) => return Err(scene::without_ready_line(tracee, error)),
    };
    tracee.count();
    let script = Script::new(Request::Ping, 1);
    let mut streams = Vec::new();
    connection::bring(address, &script, &mut streams, connections)
        .context("connecting")?;
    thread::sleep(REST);
    let mut load = Closed::new(&streams, &script, 1, connections)?;
    let before = tracee.calls();
    let taken = load.run(span);
    let after = tracee.calls();
    drop(streams);
    // If the server has died, that is why there are no replies.
    let trace = tracee.stop()?;
    ensure!(trace.status.success(), "the server ended with {}", trace.status);
    Ok(Tally::between(&before, &after, taken?.requests))
}
