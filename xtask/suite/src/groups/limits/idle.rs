//! Idle clients, clients that send too slowly, and clients that don't read.
//!
//! These cases have to wait for timeouts.

use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::promises::{Answers, Promises, WaitsIn};

use super::super::Resources;
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::fault::{self, Fault};
use crate::server::Server;
use crate::skip::skip;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Server) -> Result<()>| {
        Case::new(name, move |trial| body(&*trial.serve_with(HALF_A_SECOND)?))
    };
    let cases = [
        case("idle::silent_client", silent_client),
        case("idle::after_a_request", after_a_request),
        case("idle::dribbled_request", dribbled_request),
        case("idle::complete_requests_count", complete_requests),
        case("idle::client_that_does_not_read", deaf_client),
        case("idle::many", many).only(For::Many),
        case("idle::beside_busy_client", beside_busy_client).only(For::Many),
        case("idle::stalled_server", stalled_server),
        Case::new("idle::stalled_with_many_events", stalled_with_many_events)
            .only(For::Promising(takes_some))
            .crowd(MANY_EVENTS),
        // Where a library's threads receive, the server can't tell a late
        // thread from a silent client.
        Case::new("idle::late_read", late_read)
            .only(For::Promising(|it| it.answers != Answers::FirstThread)),
        Case::new("idle::input_without_requests", without_requests),
        Case::new("idle::zero_is_never", zero_is_never),
    ];
    cases.map(Case::mostly_waits).into()
}

const HALF_A_SECOND: &str = "--idle-timeout 0.5";

/// More events than one wait of any model returns, which is 1,024 at most.
const MANY_EVENTS: usize = 1_100;

/// Checks that half a second has passed, and not much more.
fn expect_half_a_second(since: Instant) -> Result<()> {
    let took = since.elapsed().as_secs_f64();
    ensure!((0.4..2.0).contains(&took), "it took {took:.2} s, not 0.5");
    Ok(())
}

/// The server closes the connection without a message and without a reset.
fn silent_client(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let started = Instant::now();
    server.connect()?.expect_end()?;
    expect_half_a_second(started)?;
    before.again(server)?;
    server.connect()?.ping()?;
    Ok(())
}

fn after_a_request(server: &Server) -> Result<()> {
    let mut client = server.connect()?;
    thread::sleep(Duration::from_millis(250));
    let started = Instant::now();
    client.ping()?.expect_end()?;
    expect_half_a_second(started)
}

/// Single bytes don't restart the idle timeout; only complete requests do.
fn dribbled_request(server: &Server) -> Result<()> {
    let mut client = server.connect()?;
    let started = Instant::now();
    client.send("*2\r\n$4\r\nECHO\r\n$100\r\n")?;
    client.dribble()?;
    expect_half_a_second(started)
}

/// A client that completes requests in time may stay connected.
fn complete_requests(server: &Server) -> Result<()> {
    for _ in 0..3 {
        if goes_on_asking(server)? {
            return Ok(());
        }
    }
    bail!("this machine is too busy to send a request every {LATE:?}")
}

/// The time between two requests from which the idle timeout may expire.
const LATE: Duration = Duration::from_millis(400);

/// Sends requests for longer than the idle timeout. Returns false if one was
/// late.
fn goes_on_asking(server: &Server) -> Result<bool> {
    let mut client = server.connect()?;
    let started = Instant::now();
    let mut last = started;
    while started.elapsed() < Duration::from_millis(1300) {
        let answered = client.ping();
        if last.elapsed() > LATE {
            return Ok(false);
        }
        answered.context("a client that goes on asking")?;
        last = Instant::now();
        thread::sleep(Duration::from_millis(100));
    }
    Ok(true)
}

/// The idle timeout also applies while the server has output pending.
fn deaf_client(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let started = Instant::now();
    let mut deaf = Client::with_small_window(server.tcp()?)?;
    // Ends when the server resets the connection by closing with unread input.
    let outcome = deaf.stuff(b"INFO\r\n", |_| Ok(()));
    before.again(server).with_context(|| format!("sending: {outcome:?}"))?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(4), "closed after {took:?}");
    server.connect()?.ping()?;
    Ok(())
}

/// The timers of many clients expire in another order than the clients
/// connected in. On a busy machine the first EOF may be noticed late, so there
/// are three attempts.
fn many(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let mut apart = Duration::ZERO;
    for _ in 0..3 {
        apart = leave_in_turn(server)?;
        if apart > Duration::from_millis(100) {
            return before.again(server);
        }
    }
    bail!("the silent clients ended {apart:?} before the others")
}

/// Measures how long before the others the silent clients are closed, if the
/// others send a request after a quarter of a second.
fn leave_in_turn(server: &Server) -> Result<Duration> {
    let mut clients = server.connect_many(50)?;
    thread::sleep(Duration::from_millis(250));
    // Every second client restarts its timer.
    for client in clients.iter_mut().step_by(2) {
        client.ping()?;
    }
    let started = Instant::now();
    for client in clients.iter_mut().skip(1).step_by(2) {
        client.expect_end()?;
    }
    let first = Instant::now();
    for client in clients.iter_mut().step_by(2) {
        client.expect_end()?;
    }
    expect_half_a_second(started)?;
    Ok(first.elapsed())
}

/// A server that never runs out of work still checks its timers.
fn beside_busy_client(server: &Server) -> Result<()> {
    let busy = server.connect()?;
    let mut reader = busy.twin()?;
    let started = Instant::now();
    let mut silent = server.connect()?;
    thread::scope(|scope| {
        let mut writer = busy.twin()?;
        // Both threads end when the busy connection does.
        scope.spawn(move || {
            let pings = "PING\r\n".repeat(1000);
            while writer.send(&pings).is_ok() {}
        });
        scope.spawn(move || {
            let mut replies = [0; 7000];
            while reader.read_exactly(&mut replies).is_ok() {}
        });
        let ended = silent.expect_end().map(drop);
        busy.stream.shutdown(Shutdown::Both)?;
        ended
    })?;
    expect_half_a_second(started)
}

/// A request that arrived in time counts, even if the server reads it late.
fn stalled_server(server: &Server) -> Result<()> {
    let mut clients = server.connect_served(server.clients(3))?;
    server.freeze()?;
    for client in &mut clients {
        client.send("PING\r\n")?.wait_until_arrived()?;
    }
    thread::sleep(Duration::from_millis(700));
    server.thaw()?;
    for client in &mut clients {
        client.expect("+PONG\r\n")?.ping()?;
    }
    for client in &mut clients {
        client.expect_end()?;
    }
    Ok(())
}

/// Returns whether one thread waits for many clients, and one wait returns a
/// limited number of events.
fn takes_some(promises: &Promises) -> bool {
    let limited =
        matches!(promises.waits_in, WaitsIn::EpollWait | WaitsIn::Signals);
    limited && (promises.is_one_thread() || promises.has_loops())
}

/// More events than a wait returns. Those that it leaves out are requests that
/// arrived in time, too, although their clients' timers expire before the next
/// wait.
fn stalled_with_many_events(trial: &Trial) -> Result<()> {
    let loops = match trial.subject.promises() {
        it if it.has_loops() => "--loops 1",
        _ => "",
    };
    let server = trial.serve_with(&format!("--idle-timeout 3 {loops}"))?;
    let mut clients = server.connect_served(MANY_EVENTS)?;
    server.freeze()?;
    for client in &mut clients {
        client.send("PING\r\n")?;
    }
    for client in &mut clients {
        client.wait_until_arrived()?;
    }
    thread::sleep(Duration::from_millis(3_200));
    server.thaw()?;
    for client in &mut clients {
        client.expect("+PONG\r\n")?;
    }
    Ok(())
}

/// A server can lose the CPU between any two instructions. A client has its
/// whole idle timeout after the reply, however late the request was read.
fn late_read(trial: &Trial) -> Result<()> {
    let fault = Fault::delay(fault::RECEIVE, Duration::from_millis(700));
    let launch = trial.launch().flags(HALF_A_SECOND);
    let server = launch.fault(&fault).start()?;
    let mut client = server.connect()?;
    client.ping()?;
    if !fault.was_asked() {
        return Err(skip("receives without a system call that could fail"));
    }
    fault.affect_next(1);
    client.ping()?.expect_silence(Duration::from_millis(200))?.ping()?;
    ensure!(fault.affected() == 1, "no call was late");
    Ok(())
}

/// A client that sends empty lines without a pause completes no request. It is
/// closed, although the server finds more of them whenever it looks: each call
/// that receives begins late, so the client sends faster.
fn without_requests(trial: &Trial) -> Result<()> {
    let fault = Fault::delay(fault::RECEIVE, Duration::from_millis(1));
    let launch = trial.launch().flags(HALF_A_SECOND);
    let server = launch.fault(&fault).start()?;
    fault.on();
    let lines = "\r\n".repeat(32_768);
    let mut client = server.connect()?;
    let started = Instant::now();
    while client.send(&lines).is_ok() {
        let took = started.elapsed();
        ensure!(took < Duration::from_secs(2), "still open after {took:?}");
    }
    expect_half_a_second(started)
}

fn zero_is_never(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--idle-timeout 0")?;
    let mut client = server.connect()?;
    client.expect_silence(Duration::from_millis(300))?.ping()?;
    client.expect_silence(Duration::from_millis(300))?.ping()?;
    Ok(())
}
