//! A load balancer receives and sends twice per request: once each way.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use lab::build;
use lab::haproxy::Haproxy;
use lab::model::{Transport, Workspace};
use lab::server::{self, Errors, Server};
use load::Script;
use load::closed::Closed;
use load::connection;
use load::request::Request;
use nix::unistd::Pid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::clock;
use crate::kit::served::{self, LOOP};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "load-balancer-cost",
    claim: "A load balancer costs little, even in front of a server that does \
            little per request.",
    section: "circulates",
    criterion: "Clients send PING to a server with epoll, directly and through \
                HAProxy in turn. True if, with 50 clients, HAProxy's processor \
                time per request is below a quarter of the server's, and the \
                median latency of a single client is below 1.25 times the \
                direct one. False if neither is, depends if only one is.",
    if_false: History::NeverTrue,
    sources: &[
        "clock_getcpuclockid(3)",
        "HAProxy 2.6, Configuration Manual: mode tcp",
    ],
    explanation: "HAProxy waits, receives and sends once for the request and \
                  once for its reply, where the server does so once. That is \
                  little beside a server that computes for a millisecond per \
                  request. A server that does no more than answer costs less \
                  than HAProxy in front of it.",
    run,
    file: file!(),
};

/// The number of clients that send at the same time.
const CLIENTS: usize = 50;
/// How long a load lasts.
const SPAN: Duration = Duration::from_millis(80);

/// The costs of a request, in µs.
#[derive(Debug)]
struct Costs {
    /// Processor time.
    server: f64,
    haproxy: f64,
    /// The median of a single client's latencies.
    latency: f64,
}

fn run(effort: Effort) -> Result<Finding> {
    let (server, address) = start_server()?;
    // All servers of its configuration are this one.
    let haproxy = Haproxy::start([address; 3])?;
    let processes = [server.leader(), haproxy.pid()];
    let script = Script::new(Request::Ping, 1);
    let (mut near, mut far) = (Vec::new(), Vec::new());
    connection::bring(address, &script, &mut near, CLIENTS)?;
    connection::bring(haproxy.clients, &script, &mut far, CLIENTS)?;
    let (mut direct, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(15, 3) {
        direct.push(measure(&near, processes, &script)?);
        behind.push(measure(&far, processes, &script)?);
    }
    let sample = |costs: &[Costs], of: fn(&Costs) -> f64| {
        Sample::new(costs.iter().map(of).collect())
    };
    let alone = sample(&direct, |it| it.server);
    let balancer = sample(&behind, |it| it.haproxy);
    let short = sample(&direct, |it| it.latency);
    let long = sample(&behind, |it| it.latency);
    let (time, latency) = (balancer.ratio(&alone), long.ratio(&short));
    let beside = sample(&behind, |it| it.server);
    Ok(Finding::new(
        judge(&time, &latency),
        [
            Figure::new("processor time, HAProxy / server", "times", time),
            Figure::new("latency, through HAProxy / direct", "times", latency),
            Figure::new("processor time of HAProxy", "µs", balancer),
            Figure::new("processor time of the server, direct", "µs", alone),
            Figure::new("processor time of the server, behind", "µs", beside),
            Figure::new("latency of one client, direct", "µs", short),
            Figure::new("latency of one client, through", "µs", long),
        ],
    ))
}

fn start_server() -> Result<(Server, SocketAddr)> {
    let workspace = Workspace::load()?;
    let (model, variant) = served::find(&workspace, LOOP)?;
    let mut arguments = variant.args.clone();
    arguments.extend(["--tcp", "127.0.0.1:0"].map(str::to_owned));
    let program = build::binary(&workspace, model);
    let errors = Errors::new()?;
    let command = server::command(&program, &arguments, &errors)?;
    let mut server = Server::spawn(command, errors)?;
    let address = server.wait_until_ready()?.address(Transport::Tcp)?;
    Ok((server, address))
}

/// Measures with all clients, and then the latency of one of them.
fn measure(
    clients: &[TcpStream],
    [server, haproxy]: [Pid; 2],
    script: &Script,
) -> Result<Costs> {
    let load =
        |clients| Closed::new(clients, script, 1, clients.len())?.run(SPAN);
    let times = || -> Result<_> {
        let server = clock::process_cpu_time(server)?;
        Ok((server, clock::process_cpu_time(haproxy)?))
    };
    let before = times()?;
    let requests = load(clients)?.requests as f64;
    let after = times()?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
    let latency = load(&clients[..1])?.latency.value_at_quantile(0.5);
    Ok(Costs {
        server: each(after.0 - before.0),
        haproxy: each(after.1 - before.1),
        latency: latency as f64 / 1e3,
    })
}

/// Judges HAProxy's processor time as a part of the server's, and the latency
/// through HAProxy as a part of the direct one.
fn judge(time: &Sample, latency: &Sample) -> Answer {
    time.is_below(0.25).or_depends(latency.is_below(1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_time_and_latency_decide() {
        let answer = |time: &[f64], latency: f64| {
            judge(&Sample::new(time.to_vec()), &latency.into())
        };
        assert_eq!(answer(&[0.1, 0.2], 1.1), Answer::True);
        assert_eq!(answer(&[0.1, 0.2], 1.3), Answer::Depends);
        assert_eq!(answer(&[1.9, 2.2], 1.1), Answer::Depends);
        assert_eq!(answer(&[1.9, 2.2], 2.0), Answer::False);
        assert_eq!(answer(&[0.2, 0.3], 1.1), Answer::Undecided);
    }
}
