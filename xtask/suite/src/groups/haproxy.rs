//! Three servers behind one address: HAProxy checks each with PING, and
//! forwards clients to those that answer.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use anyhow::{Context, Error, Result, ensure};
use lab::Unsupported;
use lab::haproxy::Haproxy;
use lab::process::{Process, poll_until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::PATIENCE;
use crate::case::{Case, Trial};
use crate::client::Client;
use crate::load::Load;
use crate::server::Server;
use crate::skip::skip;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial, &Site) -> Result<()>| {
        Case::new(name, move |trial| {
            let site = Site::start(trial)?;
            let said = || format!("HAProxy: {}", site.haproxy.messages());
            body(trial, &site).with_context(said)
        })
        .mostly_waits()
    };
    vec![
        case("haproxy::server_killed", server_killed),
        case("haproxy::server_hangs", server_hangs),
    ]
}

/// The servers' address: not that of the clients, so that no client gets the
/// port of a server that is about to be started again.
const SERVERS: &str = "127.0.0.2:0";

/// The number of clients: enough for each server to have several.
const CLIENTS: usize = 30;

/// How often each busy client is answered at least, on average.
const ROUNDS: usize = 10;

fn server_killed(trial: &Trial, site: &Site) -> Result<()> {
    let mut guests = site.guests()?;
    let [killed, ..] = &site.servers;
    let address = killed.tcp()?;
    killed.signal(Signal::SIGKILL)?;
    killed.wait()?;
    wait_until_refused(address)?;
    // New clients are served even if the check hasn't noticed yet.
    site.guests().context("before the check")?;
    site.wait_for("DOWN")?;
    site.expect_first_lost(&mut guests)?;
    let load = Load::start(site.haproxy.clients, CLIENTS)?;
    site.guests().context("after the check")?;

    let again = trial.launch().tcp(address).resting().start()?;
    site.wait_for("UP")?;
    let guests = site.guests()?;
    ensure!(is_served_by(&again, &guests), "started again, it has no client");
    // No busy client was disconnected meanwhile.
    load.fewest(ROUNDS)?;
    Ok(())
}

/// The kernel accepts connections for a stopped process, so only the check's
/// PING shows that the server doesn't answer.
fn server_hangs(_: &Trial, site: &Site) -> Result<()> {
    let mut guests = site.guests()?;
    let [stopped, ..] = &site.servers;
    stopped.freeze()?;
    site.wait_for("DOWN")?;
    site.expect_first_lost(&mut guests)?;
    site.guests().context("after the check")?;
    stopped.thaw()?;
    site.wait_for("UP")?;
    let guests = site.guests()?;
    ensure!(is_served_by(stopped, &guests), "continued, it has no client");
    Ok(())
}

/// Three servers behind HAProxy. The cases are about the first server.
struct Site {
    servers: [Rc<Server>; 3],
    haproxy: Haproxy,
}

impl Site {
    /// Starts all of them, and checks that each server gets clients.
    fn start(trial: &Trial) -> Result<Self> {
        if trial.subject.serves_one() {
            // A check that waits behind a client fails.
            return Err(skip(
                "serves one client at a time, and a check is one",
            ));
        }
        let serve = || trial.launch().tcp(SERVERS).resting().start();
        let servers = [serve()?, serve()?, serve()?];
        let [one, two, three] = &servers;
        let haproxy = Haproxy::start([one.tcp()?, two.tcp()?, three.tcp()?]);
        let site = Self { haproxy: haproxy.map_err(or_skip)?, servers };
        let guests = site.guests()?;
        for server in &site.servers {
            let is_served = is_served_by(server, &guests);
            ensure!(is_served, "server {} has no client", server.pid);
        }
        Ok(site)
    }

    /// Connects clients, and checks that each is served.
    fn guests(&self) -> Result<Vec<Guest>> {
        let connect = |number| {
            Guest::connect(self.haproxy.clients)
                .with_context(|| format!("client {number}"))
        };
        (0..CLIENTS).map(connect).collect()
    }

    /// Waits until HAProxy's check has noticed the first server's end or
    /// return.
    fn wait_for(&self, status: &str) -> Result<()> {
        let mut seen = String::new();
        poll_until(&format!("status {status}"), PATIENCE, || {
            seen = self.haproxy.status(0)?;
            Ok(seen == status)
        })
        .with_context(|| format!("the last status was {seen:?}"))
    }

    /// Checks that the first server's clients are disconnected, and no others.
    fn expect_first_lost(&self, guests: &mut [Guest]) -> Result<()> {
        for Guest { client, server } in guests {
            if *server == self.servers[0].pid {
                client.expect_gone()?;
            } else {
                client.ping()?;
            }
        }
        Ok(())
    }
}

/// A client behind HAProxy.
struct Guest {
    client: Client,
    /// The process group that answers it, which is a server's.
    server: Pid,
}

impl Guest {
    fn connect(address: SocketAddr) -> Result<Self> {
        let mut client = Client::connect(address)?;
        let pid = client.ping()?.info()?.number("pid")?;
        let process = Process::read(Pid::from_raw(pid.try_into()?));
        let server = process.context("its server has ended")?.group;
        Ok(Self { client, server })
    }
}

fn is_served_by(server: &Server, guests: &[Guest]) -> bool {
    guests.iter().any(|guest| guest.server == server.pid)
}

/// Waits until nothing accepts connections at the address. The kernel may close
/// the sockets of a ring after the process has ended (io_uring/io_uring.c,
/// io_ring_exit_work).
fn wait_until_refused(address: SocketAddr) -> Result<()> {
    poll_until("connections to be refused", PATIENCE, || {
        let refused = TcpStream::connect_timeout(&address, PATIENCE);
        Ok(refused.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused))
    })
}

/// Skips the case if HAProxy isn't installed.
fn or_skip(error: Error) -> Error {
    match error.downcast_ref::<Unsupported>() {
        Some(why) => skip(why.to_string()),
        None => error,
    }
}
