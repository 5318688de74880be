//! Counts system calls per request: a longer run under the tracer, with the
//! load generator as the client.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::model::Transport;
use load::closed::Closed;
use load::request::Request;
use load::{Script, connection};
use trace::host::{Host, Tracing};
use trace::tally::Tally;

/// The time for the server to become idle once all clients are connected. No
/// events are recorded that would show it.
const REST: Duration = Duration::from_millis(50);

/// The time for which calls are counted.
const SPAN: Duration = Duration::from_millis(200);

/// Starts a server under the tracer and sends requests on `connections`
/// connections in a closed loop. Checks every reply.
pub fn measure(
    program: &Path,
    arguments: &[String],
    connections: usize,
) -> Result<Tally> {
    let socket = (Transport::Tcp, "127.0.0.1:0");
    let host = Host::start(program, arguments, socket, Tracing::Required)?;
    let tracee = host.tracee().context("it is not traced")?;
    tracee.count();
    let script = Script::new(Request::Ping, 1);
    let mut streams = Vec::new();
    connection::bring(host.address(), &script, &mut streams, connections)
        .context("connecting")?;
    thread::sleep(REST);
    let mut load = Closed::new(&streams, &script, 1, connections)?;
    let before = tracee.calls();
    let load = load.run(SPAN);
    let after = tracee.calls();
    drop(streams);
    let requests = match load {
        Ok(load) => load.requests,
        Err(error) => return Err(host.explain(error)),
    };
    host.stop()?;
    Ok(Tally::between(&before, &after, requests))
}
