//! One thread accepts, and hands each client to one of several loops: which
//! loop that is, and that no client is lost on the way.

use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::process::{Process, limit_descriptors, list, poll_until};
use lab::promises::Answers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::PATIENCE;
use crate::case::{Case, For, Trial};
use crate::client::Client;
use crate::datagrams::Peer;
use crate::groups::Resources;
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body).only(For::Promising(|it| it.hands_over.is_some()))
    };
    let process = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.answers == Answers::LoopProcess))
    };
    vec![
        case("hand_over::in_turn", in_turn),
        case("hand_over::fewest", fewest),
        case("hand_over::had_sent_before", had_sent_before),
        case("hand_over::queued_clients_at_shutdown", queued_at_shutdown),
        case("hand_over::full_queue_is_left_out", full_queue_is_left_out)
            .crowd(CROWD),
        case("hand_over::all_queues_are_full", all_queues_are_full)
            .crowd(CROWD),
        process("loop_process::killed", killed),
        process("loop_process::killed_with_clients_in_its_queue", killed_queue),
        process("loop_process::without_a_free_descriptor", no_descriptor),
        process("loop_process::ends_with_its_parent", parent_killed),
    ]
}

/// Several times as many clients as the queue of a loop should hold.
const CROWD: usize = 200;

/// Holds up a loop, for much longer than the crowd needs to connect.
const SLEEP: &str = "DEBUG SLEEP 0.8\r\n";

/// Returns how many of the clients each loop has.
fn shares(clients: &mut [Client]) -> Result<BTreeMap<u64, usize>> {
    let mut shares = BTreeMap::new();
    for client in clients {
        *shares.entry(client.info()?.number("loop")?).or_insert(0) += 1;
    }
    Ok(shares)
}

fn in_turn(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--loops 2")?;
    let shares = shares(&mut server.connect_many(8)?)?;
    ensure!(shares == [(0, 4), (1, 4)].into(), "clients by loop: {shares:?}");
    Ok(())
}

/// When the clients of one loop leave, the next ones come to that loop.
fn fewest(trial: &Trial) -> Result<()> {
    let flag = trial.subject.promises().hands_over.as_deref();
    let flag = flag.context("no flag")?;
    let server = trial.serve_with(&format!("--loops 2 {flag} fewest"))?;
    let (mut clients, mut stay) = (server.connect_many(8)?, Vec::new());
    let before = shares(&mut clients)?;
    ensure!(before == [(0, 4), (1, 4)].into(), "clients by loop: {before:?}");
    for mut client in clients {
        match client.info()?.number("loop")? {
            0 => client.leave()?,
            _ => stay.push(client),
        }
    }
    let came = shares(&mut server.connect_many(4)?)?;
    ensure!(came == [(0, 4)].into(), "4 left loop 0, then came: {came:?}");
    Client::ping_all(&mut stay)
}

/// A request that arrives before the loop has the socket is answered: an
/// edge-triggered registration reports what is there already.
fn had_sent_before(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--loops 2")?;
    for _ in 0..3 {
        server.freeze()?;
        let mut clients = server.connect_many(4)?;
        for client in &mut clients {
            client.send("PING\r\n")?;
        }
        Client::wait_until_all_arrived(&mut clients)?;
        server.thaw()?;
        for client in &mut clients {
            client.expect("+PONG\r\n")?;
        }
    }
    Ok(())
}

/// Starts a server and holds up its only loop, or that of its first client.
fn held_up(trial: &Trial, loops: usize) -> Result<(Rc<Server>, Client)> {
    let flags = format!("--enable-debug-command --loops {loops}");
    let server = trial.serve_with(&flags)?;
    let mut busy = server.connect()?;
    busy.ping()?.send(SLEEP)?.wait_until_arrived()?;
    Ok((server, busy))
}

/// Connects clients that send a request at once.
fn asking(server: &Server, count: usize) -> Result<Vec<Client>> {
    let mut clients = server.connect_many(count)?;
    for client in &mut clients {
        client.send("PING\r\n")?;
    }
    Ok(clients)
}

/// Returns the length of the accept queue, which /proc shows as the receive
/// queue of a listener, in state 0A (net/ipv4/tcp_ipv4.c, get_tcp4_sock).
fn accept_queue(server: &Server) -> Result<usize> {
    let port = format!(":{:04X}", server.tcp()?.port());
    let table = fs::read_to_string("/proc/net/tcp")?;
    let queue = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next(), fields.next());
        let listens = local.ends_with(&port) && state == Some("0A");
        listens.then(|| fields.next()?.split_once(':'))?
    });
    let (_, received) = queue.context("no listener in /proc/net/tcp")?;
    Ok(usize::from_str_radix(received, 16)?)
}

/// Waits until the server has accepted all connections.
fn wait_until_accepted(server: &Server) -> Result<()> {
    poll_until(
        "all to be accepted",
        PATIENCE,
        || Ok(accept_queue(server)? == 0),
    )
}

/// Clients that were accepted and wait for their loop when shutdown is
/// requested are answered like all others.
fn queued_at_shutdown(trial: &Trial) -> Result<()> {
    let (server, mut busy) = held_up(trial, 1)?;
    let mut queued = asking(&server, 20)?;
    Client::wait_until_all_arrived(&mut queued)?;
    wait_until_accepted(&server)?;
    server.terminate()?;
    busy.expect("+OK\r\n")?.expect_end()?;
    for (number, client) in queued.iter_mut().enumerate() {
        let name = || format!("queued client {number}");
        client.expect("+PONG\r\n").with_context(name)?;
        client.expect_end().with_context(name)?;
    }
    server.expect_exit(0)
}

/// While one loop is held up, the other one gets the clients for which the
/// first one's queue has no room.
fn full_queue_is_left_out(trial: &Trial) -> Result<()> {
    let (server, mut busy) = held_up(trial, 2)?;
    let mut clients = asking(&server, CROWD)?;
    busy.expect("+OK\r\n")?;
    Client::ping_rest(&mut clients)?;
    let shares = shares(&mut clients)?;
    let most = shares.values().max().copied().unwrap_or(0);
    ensure!(most > CROWD * 6 / 10, "clients by loop: {shares:?}");
    Ok(())
}

/// While all queues are full, clients wait in the accept queue. None is lost.
fn all_queues_are_full(trial: &Trial) -> Result<()> {
    let (server, mut busy) = held_up(trial, 1)?;
    let mut clients = asking(&server, CROWD)?;
    let waiting = accept_queue(&server)?;
    busy.expect("+OK\r\n")?;
    ensure!(waiting >= CROWD / 2, "{waiting} of {CROWD} were not accepted");
    Client::ping_rest(&mut clients)
}

/// The least time between two starts of the same loop's process.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns the loop processes.
fn loops(server: &Server) -> Vec<Process> {
    let mut processes = server.group();
    processes.retain(|process| process.pid != server.pid);
    processes
}

fn pid(client: &mut Client) -> Result<Pid> {
    Ok(Pid::from_raw(client.info()?.number("pid")?.try_into()?))
}

/// A loop process that is killed takes its own clients with it, and no others.
/// It is replaced, but not in a tight loop: at the earliest a second after its
/// own start.
fn killed(trial: &Trial) -> Result<()> {
    let started = Instant::now();
    let launch = trial.launch().udp("127.0.0.1:0");
    let server = launch.flags("--loops 2").start()?;
    let before = Resources::of(&server)?;
    let mut clients = server.connect_served(8)?;
    let victim = pid(&mut clients[0])?;
    let peer = peer_of(victim, &server)?;
    // All are busy when it dies.
    let (requests, replies) = ("PING\r\n".repeat(500), "+PONG\r\n".repeat(500));
    for client in &mut clients {
        client.send(&requests)?;
    }
    kill(victim, Signal::SIGKILL)?;
    server.stderr.wait_for("killed by SIGKILL")?;
    let (mut lost, mut kept) = (0, Vec::new());
    for mut client in clients {
        match client.expect(&replies).and_then(Client::ping) {
            Ok(_) => kept.push(client),
            Err(_) => lost += 1,
        }
    }
    ensure!(lost == 4, "{lost} clients of 8 were lost");
    let counted = kept[0].info()?.number("clients")?;
    ensure!(counted == 4, "INFO counts {counted} clients");
    // New clients come to the other loop. Datagrams wait for the next process.
    kept.extend(server.connect_served(4)?);
    peer.send("PING\r\n")?;
    poll_until("the process to be replaced", PATIENCE, || {
        Ok(loops(&server).len() == 2)
    })?;
    let after = started.elapsed();
    ensure!(after >= PAUSE, "replaced {after:?} after the server's start");
    let new = server
        .connect_served(2)?
        .iter_mut()
        .map(pid)
        .collect::<Result<Vec<_>>>()?;
    ensure!(!new.contains(&victim) && new[0] != new[1], "they have {new:?}");
    peer.expect("+PONG\r\n")?;
    let answers = Pid::from_raw(peer.info()?.number("pid")?.try_into()?);
    ensure!(answers != pid(&mut kept[0])?, "the new process has no datagrams");
    Client::ping_all(&mut kept)?;
    let now = loops(&server);
    ensure!(now.iter().all(|it| it.state != 'Z'), "left: {}", list(&now));
    drop(kept);
    before.again(&server)
}

/// Opens a datagram socket whose requests this loop process answers. The kernel
/// chooses one of the two by the sender's port.
fn peer_of(process: Pid, server: &Server) -> Result<Peer> {
    for _ in 0..64 {
        let peer = server.peer()?;
        if peer.info()?.number("pid")? == u64::try_from(process.as_raw())? {
            return Ok(peer);
        }
    }
    bail!("{process} has answered no datagram of 64 senders")
}

/// The kernel closes the sockets in the queue of a process that has ended.
/// Shutdown works while there is no loop.
fn killed_queue(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--loops 1")?;
    let mut first = server.connect()?;
    let victim = pid(&mut first)?;
    kill(victim, Signal::SIGSTOP)?;
    let mut queued = asking(&server, 4)?;
    wait_until_accepted(&server)?;
    kill(victim, Signal::SIGKILL)?;
    for client in queued.iter_mut().chain([&mut first]) {
        client.expect_gone()?;
    }
    server.stderr.wait_for("killed by SIGKILL")?;
    server.terminate()?;
    server.expect_exit(0)
}

/// A client for whose socket the loop process has no number does not wait for
/// ever: its connection is closed. It is not counted any more.
fn no_descriptor(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--loops 1")?;
    let mut first = server.connect()?;
    first.ping()?;
    let process = pid(&mut first)?;
    let is_open = |number: &u64| {
        fs::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_ok()
    };
    let free = (0..).find(|number| !is_open(number)).unwrap_or(0);
    let before = limit_descriptors(process, free)?;
    for _ in 0..3 {
        server.connect()?.expect_gone()?;
    }
    server.stderr.wait_for("EMFILE")?;
    limit_descriptors(process, before)?;
    let counted = server.connect()?.info()?.number("clients")?;
    ensure!(counted == 2, "INFO counts {counted} clients");
    first.ping()?;
    Ok(())
}

/// The kernel kills the loop processes with their parent. Without that, this
/// one would try to send replies for as long as a drain may take.
fn parent_killed(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--loops 1 --drain-timeout 60")?;
    let mut deaf = Client::with_small_window(server.tcp()?)?;
    deaf.ping()?.stuff(b"INFO\r\n", |_| Ok(()))?;
    server.signal(Signal::SIGKILL)?;
    server.wait()?;
    Ok(())
}
