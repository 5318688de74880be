//! Shutdown: what is still delivered, which clients are waited for, and what is
//! left behind.

use std::io::ErrorKind;
use std::io::Read as _;
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::process::{poll_until, wait_readable};
use lab::promises::{Answers, Promises, WaitsIn};
use nix::sys::signal::{Signal, kill};

use super::super::Resources;
use super::super::limits::expect_rest_for;
use crate::PATIENCE;
use crate::bytes::{show, unknowns};
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::fault::{self, Fault};
use crate::load::Load;
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Server) -> Result<()>| {
        Case::new(name, move |trial| body(&*trial.serve_with(A_MINUTE)?))
    };
    vec![
        Case::new("shutdown::sigterm", |t| stops_idle(t, Signal::SIGTERM)),
        Case::new("shutdown::sigint", |t| stops_idle(t, Signal::SIGINT)),
        Case::new("shutdown::datagrams", stops_datagrams),
        case("shutdown::idle_clients_at_once", idle_clients),
        Case::new("shutdown::idle_client_asks_late", asks_late)
            .only(For::Promising(receives_nothing_while_idle)),
        case("shutdown::replies_in_flight", replies_in_flight),
        case("shutdown::behind_urgent_data", behind_urgent_data),
        case("shutdown::client_keeps_sending", client_keeps_sending),
        Case::new("shutdown::input_without_end", input_without_end),
        Case::new("shutdown::acknowledged_late", acknowledged_late),
        Case::new("shutdown::reset_before_the_end", reset_before_the_end),
        Case::new("shutdown::drain_timeout", drain_timeout),
        case("shutdown::second_signal", second_signal),
        case("shutdown::no_new_clients", no_new_clients).only(For::Many),
        case("shutdown::under_load", under_load),
        Case::new("shutdown::at_any_moment", at_any_moment),
        Case::new("shutdown::while_clients_connect", while_clients_connect),
        Case::serving("shutdown::killed", killed),
    ]
}

/// Longer than any case, so that no client is cut off.
const A_MINUTE: &str = "--drain-timeout 60";

fn stops_idle(trial: &Trial, signal: Signal) -> Result<()> {
    let fresh = trial.serve()?;
    fresh.signal(signal)?;
    fresh.expect_exit(0)?;
    let used = trial.serve()?;
    used.connect()?.ping()?;
    used.signal(signal)?;
    used.expect_exit(0)?;
    Ok(())
}

fn stops_datagrams(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let server = trial.launch().only_udp("127.0.0.1:0").start()?;
    server.peer()?.send("PING\r\n")?.expect("+PONG\r\n")?;
    // Datagrams that are queued when shutdown is requested are answered.
    server.freeze()?;
    let peer = server.peer()?;
    for _ in 0..20 {
        peer.send("PING\r\n")?;
    }
    server.terminate()?;
    server.thaw()?;
    for number in 0..20 {
        let queued = || format!("queued datagram {number}");
        peer.expect("+PONG\r\n").with_context(queued)?;
    }
    server.expect_exit(0)
}

/// Shutdown does not wait for a client without a complete request: neither for
/// a silent one nor for one in the middle of a request.
fn idle_clients(server: &Server) -> Result<()> {
    let mut clients = server.connect_served(server.clients(10))?;
    for client in clients.iter_mut().skip(1).step_by(2) {
        client.send("*2\r\n$4\r\nECHO\r\n$5\r\nhe")?;
    }
    // A server of one client has this one in its accept queue.
    let mut late = server.connect()?;
    server.terminate()?;
    for mut client in clients {
        client.expect_end()?;
    }
    late.expect_gone()?;
    server.expect_exit(0)
}

/// Returns whether no call that receives may begin before the signal is noticed
/// while clients are idle. A loop process is notified by a message, and SIGIO
/// also reports that a reply was acknowledged.
fn receives_nothing_while_idle(promises: &Promises) -> bool {
    promises.waits_in.is_for_readiness()
        && promises.waits_in != WaitsIn::Signals
        && promises.answers != Answers::LoopProcess
}

/// A client that was idle at the signal gets no reply to a later request. A
/// server that received once more would find it, because that call begins late.
fn asks_late(trial: &Trial) -> Result<()> {
    let fault = Fault::delay(fault::RECEIVE, Duration::from_millis(50));
    let server = trial.launch().flags(A_MINUTE).fault(&fault).start()?;
    let mut client = server.connect()?;
    client.ping()?;
    fault.on();
    server.terminate()?;
    poll_until("the drain to begin", PATIENCE, || {
        let closed = wait_readable(&client.stream, Instant::now())?;
        Ok(closed || fault.affected() > 0)
    })?;
    // The connection may be closed already.
    let _ = client.send("PING\r\n");
    client.expect_gone()?;
    server.expect_exit(0)
}

/// Requests from before the signal are answered after it, even if the client
/// reads slowly.
fn replies_in_flight(server: &Server) -> Result<()> {
    let (requests, replies) = unknowns(10_500);
    let mut clients = Vec::new();
    for _ in 0..server.clients(5) {
        let mut client = Client::with_small_window(server.tcp()?)?;
        client.ping()?.send(&requests)?.wait_until_arrived()?;
        clients.push(client);
    }
    server.terminate()?;
    for (number, mut client) in clients.into_iter().enumerate() {
        client
            .expect(&replies)
            .and_then(Client::expect_end)
            .with_context(|| format!("client {number}"))?;
    }
    server.expect_exit(0)
}

/// Requests behind an urgent byte have arrived like those before it and are
/// answered, though SIOCINQ may count only up to that byte. Each part needs
/// several calls to receive.
fn behind_urgent_data(server: &Server) -> Result<()> {
    const REQUESTS: usize = 5_000;

    let mut client = server.connect()?;
    client.ping()?;
    server.freeze()?;
    let pings = "PING\r\n".repeat(REQUESTS);
    client.send(&pings)?.send("PIN")?.send_urgent(b'G')?;
    client.send("\r\n")?.send(&pings)?.wait_until_arrived()?;
    server.terminate()?;
    server.thaw()?;
    let replies = "+PONG\r\n".repeat(2 * REQUESTS + 1);
    client.expect(&replies)?.expect_end()?;
    server.expect_exit(0)
}

/// Requests sent after the signal are not answered, but they must not destroy
/// replies on their way. A server that closed the socket, or shut down both
/// directions, would respond to them with a reset, and the client's kernel
/// would drop what is queued.
fn client_keeps_sending(server: &Server) -> Result<()> {
    let (requests, replies) = unknowns(1_000);
    let mut client = Client::with_small_window(server.tcp()?)?;
    client.ping()?.send(&requests)?.wait_until_arrived()?;
    server.signal_and_wait(Signal::SIGTERM)?;
    // The client sends at its own pace, whatever the server does. The
    // connection may be closed already.
    for _ in 0..20 {
        let _ = client.send("PING\r\n");
        thread::sleep(Duration::from_millis(5));
    }
    client.expect(&replies)?;
    // The first of these may have arrived before the server stopped reading.
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    let pongs = rest.chunks(7).all(|reply| reply == b"+PONG\r\n");
    ensure!(pongs, "{}", show(&rest));
    server.expect_exit(0)
}

/// A client sends without a pause, and the server finds more input whenever it
/// looks: each call that receives begins late, so the client sends faster, and
/// after an urgent byte a short recv doesn't mean that the socket is drained. A
/// server that looked for the signal only where it has to wait would never end.
fn input_without_end(trial: &Trial) -> Result<()> {
    let fault = Fault::delay(fault::RECEIVE, Duration::from_millis(1));
    let server = trial.launch().flags(A_MINUTE).fault(&fault).start()?;
    let mut client = server.connect()?;
    client.send("\r")?.send_urgent(b'\n')?.ping()?;
    fault.on();
    let lines = "\r\n".repeat(32_768);
    for _ in 0..4 {
        client.send(&lines)?;
    }
    server.terminate()?;
    let asked = Instant::now();
    while client.send(&lines).is_ok() {
        let took = asked.elapsed();
        ensure!(took < Duration::from_secs(3), "it still reads after {took:?}");
    }
    server.expect_exit(0)
}

/// A client reads the rest of its replies after the signal and does not close
/// the connection. poll(2) and epoll(7) have no event for the acknowledgement.
fn acknowledged_late(trial: &Trial) -> Result<()> {
    let (server, mut client) = with_unread_replies(trial)?;
    server.signal_and_wait(Signal::SIGTERM)?;
    let (_, replies) = unknowns(UNREAD);
    client.expect(&replies[FIRST..])?.expect_end()?;
    expect_end_at_once(&server)
}

/// Shutdown does not wait for a connection that was reset, though replies in
/// its send queue will never be acknowledged.
fn reset_before_the_end(trial: &Trial) -> Result<()> {
    let (server, client) = with_unread_replies(trial)?;
    server.freeze()?;
    client.reset()?;
    server.terminate()?;
    server.thaw()?;
    expect_end_at_once(&server).context("reset before the signal")?;

    let (server, client) = with_unread_replies(trial)?;
    server.signal_and_wait(Signal::SIGTERM)?;
    client.reset()?;
    expect_end_at_once(&server).context("reset after the signal")
}

/// The requests of a client that does not read: they fit into one chunk of
/// input, and the replies exceed its window.
const UNREAD: usize = 300;

/// How many bytes of the replies it reads, to know that they are sent.
const FIRST: usize = 100;

/// Starts a server and connects a client that leaves part of its replies in the
/// server's send queue.
fn with_unread_replies(trial: &Trial) -> Result<(Rc<Server>, Client)> {
    let server = trial.serve_with(A_MINUTE)?;
    let mut client = Client::with_small_window(server.tcp()?)?;
    let (requests, replies) = unknowns(UNREAD);
    client.ping()?.send(&requests)?.expect(&replies[..FIRST])?;
    Ok((server, client))
}

/// Checks that the server ends within milliseconds, as it has nothing to wait
/// for.
fn expect_end_at_once(server: &Server) -> Result<()> {
    let asked = Instant::now();
    server.expect_exit(0)?;
    let took = asked.elapsed();
    ensure!(took < Duration::from_millis(700), "stopped after {took:?}");
    Ok(())
}

/// Clients that never read are waited for until --drain-timeout, without
/// spinning, and their number is logged.
fn drain_timeout(trial: &Trial) -> Result<()> {
    let launch = trial.launch().resting();
    let server = launch.flags("--drain-timeout 0.5").start()?;
    let count = server.clients(3);
    let clients = deaf_clients(&server, count)?;
    let asked = Instant::now();
    server.terminate()?;
    expect_rest_for(&server, Duration::from_millis(300))?;
    let end = server.wait()?.expect(0)?;
    let took = asked.elapsed().as_secs_f64();
    ensure!((0.4..2.5).contains(&took), "stopped after {took:.1} s, not 0.5");
    let logged = end.stderr.lines().any(|line| {
        line.contains("cut off")
            && line.split(' ').any(|word| word == count.to_string())
    });
    ensure!(logged, "standard error does not say that {count} were cut off");
    drop(clients);
    Ok(())
}

/// Connects clients that never read: for each, the server has more replies than
/// the socket buffers hold.
fn deaf_clients(server: &Server, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::with_small_window(server.tcp()?)?;
        client.ping()?.stuff(b"INFO\r\n", |_| Ok(()))?;
        clients.push(client);
    }
    Ok(clients)
}

/// After a second signal the server does not wait any more.
fn second_signal(server: &Server) -> Result<()> {
    let count = server.clients(3);
    let clients = deaf_clients(server, count)?;
    server.signal_and_wait(Signal::SIGTERM)?;
    let asked = Instant::now();
    server.terminate()?;
    server.expect_exit(1)?;
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(2), "it took {took:?}");
    drop(clients);
    Ok(())
}

/// While the last clients are waited for, new connections are refused, because
/// they would not be served.
fn no_new_clients(server: &Server) -> Result<()> {
    let deaf = deaf_clients(server, 1)?;
    server.terminate()?;
    let address = server.tcp()?;
    poll_until("new connections to be refused", PATIENCE, || {
        // Other errors don't count: an accept queue that is not emptied fills
        // up, too.
        let new_client = TcpStream::connect_timeout(&address, PATIENCE);
        Ok(new_client.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused))
    })?;
    drop(deaf);
    server.expect_exit(0)
}

/// Clients that never stop sending requests get whole replies up to the end,
/// and the server does not wait for them to stop.
fn under_load(server: &Server) -> Result<()> {
    let load = Load::start(server.tcp()?, server.clients(8))?;
    server.terminate()?;
    load.expect_ends()?;
    server.expect_exit(0)
}

/// A signal that arrives between a check and a wait must not be missed.
fn at_any_moment(trial: &Trial) -> Result<()> {
    let mut random = trial.random();
    for round in 0..25 {
        let server = trial.serve_with(A_MINUTE)?;
        let (pid, after) = (server.pid, random.u64(0..3_000));
        let mut client = server.connect()?;
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_micros(after));
            kill(pid, Signal::SIGTERM)
        });
        let deadline = Instant::now() + PATIENCE;
        while client.ping().is_ok() {
            ensure!(
                Instant::now() < deadline,
                "it still serves after {PATIENCE:?}"
            );
        }
        let _ = stopper.join();
        server
            .expect_exit(0)
            .with_context(|| format!("round {round}, after {after} us"))?;
    }
    Ok(())
}

/// Shutdown does not wait for clients that have just connected. Each is
/// answered, or disconnected before the server has read its request.
fn while_clients_connect(trial: &Trial) -> Result<()> {
    for round in 0..5 {
        let server = trial.serve_with(A_MINUTE)?;
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = server.connect()?;
            client.send("PING\r\n")?;
            clients.push(client);
        }
        server.terminate()?;
        expect_end_at_once(&server)
            .with_context(|| format!("round {round}"))?;
        for (number, client) in clients.iter_mut().enumerate() {
            let mut reply = Vec::new();
            // A reset may follow, if the server had not read the request.
            let _ = client.stream.read_to_end(&mut reply);
            let whole = reply.is_empty() || reply == b"+PONG\r\n";
            ensure!(whole, "client {number} has {}", show(&reply));
        }
    }
    Ok(())
}

/// After SIGKILL only the kernel can clean up.
fn killed(server: &Server) -> Result<()> {
    let clients = server.connect_served(server.clients(10))?;
    let held = Resources::of(server)?;
    server.signal(Signal::SIGKILL)?;
    let ended = server.wait().with_context(|| format!("it had {held:?}"))?;
    ensure!(ended.status.code().is_none(), "{}", ended.status);
    for mut client in clients {
        client.expect_gone()?;
    }
    Ok(())
}
