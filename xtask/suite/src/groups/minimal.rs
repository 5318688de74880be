//! Minimal programs: they serve several clients, and their system calls are
//! those of the model.

use anyhow::{Context, Result, ensure};
use lab::model::Transport;
use lab::process::poll_until;
use lab::promises::Answers;
use trace::rules::rules;
use trace::steps::{Step, is_delivered};

use crate::PATIENCE;
use crate::bytes::{bulk, echo, echoes, request};
use crate::case::{Case, For, Trial};
use crate::server::Server;
use crate::skip::skip;

/// A limit on descriptors that each minimal program reaches soon.
const DESCRIPTORS: u64 = 32;

/// Rules about what minimal programs leave out.
const LEFT_OUT: [&str; 4] = [
    // They call functions of std::net, which set O_NONBLOCK with a second call.
    "accepts_nonblocking",
    // They have no timeouts.
    "sets_socket_timeouts",
    // They use no multishot operations.
    "one_receive_for_all",
    // They ignore SIGCHLD, so the kernel reaps.
    "reaps_its_children",
];

pub fn cases() -> Vec<Case> {
    let case = |name: &str, body: fn(&Server) -> Result<()>| {
        let body = move |trial: &Trial| body(&*trial.serve_minimal()?);
        Case::new(name, body).only(For::Minimal)
    };
    vec![
        case("ping_and_echo", ping_and_echo),
        case("pipelining", pipelining),
        case("two_clients", two_clients),
        case("client_leaves", client_leaves),
        Case::new("full_descriptor_table", full_table).only(For::Minimal),
        Case::new("rules", keeps_rules).only(For::Minimal),
        Case::new("datagrams", datagrams).only(For::MinimalDatagrams),
        Case::new("handler_copies", handler_copies).only(For::MinimalDatagrams),
    ]
}

fn ping_and_echo(server: &Server) -> Result<()> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let (request, reply) = echo(&every_byte);
    let mut client = server.connect()?;
    client.ping()?.send(request)?.expect(reply)?;
    client.send("PING hello\r\n")?.expect(bulk("hello"))?;
    Ok(())
}

/// Many requests arrive at once, and split anywhere.
fn pipelining(server: &Server) -> Result<()> {
    let (requests, replies) = echoes(200, 100);
    let mut client = server.connect()?;
    client.exchange(&requests, &replies)?;
    client.send_in_pieces(&requests[..2_000], || 7)?;
    client.expect(&replies[..1_500])?;
    Ok(())
}

/// A server of one client serves the second when the first has left.
fn two_clients(server: &Server) -> Result<()> {
    let (mut first, mut second) = (server.connect()?, server.connect()?);
    first.ping()?;
    if server.serves_one {
        second.send("PING\r\n")?;
        first.ping()?.ping()?;
        first.leave()?;
        second.expect("+PONG\r\n")?;
        return Ok(());
    }
    for _ in 0..3 {
        second.ping()?;
        first.ping()?;
    }
    Ok(())
}

/// However a client leaves, the others are still served.
fn client_leaves(server: &Server) -> Result<()> {
    let mut witness = match server.serves_one {
        true => None,
        false => Some(server.connect()?),
    };
    let mut quits = server.connect()?;
    quits.send(request(&["QUIT"]))?.expect("+OK\r\n")?.expect_end()?;
    drop(quits);
    server.connect()?.leave()?;
    let mut resets = server.connect()?;
    resets.ping()?;
    resets.reset()?;
    let mut leaves_a_part = server.connect()?;
    leaves_a_part.send("*1\r\n$4\r\nPI")?;
    drop(leaves_a_part);
    if let Some(witness) = &mut witness {
        witness.ping()?;
    }
    server.connect()?.ping()?;
    Ok(())
}

/// When no descriptor is left, the program ends with an error. It neither spins
/// nor lets clients wait for ever.
fn full_table(trial: &Trial) -> Result<()> {
    let promises = trial.subject.promises();
    if !promises.rejects_the_next() || promises.answers == Answers::OwnProcess {
        return Err(skip("an additional client costs it no descriptor"));
    }
    let minimal =
        trial.subject.minimal.as_ref().context("no minimal program")?;
    let launch = trial.launch().example(minimal);
    let server = launch.descriptors(DESCRIPTORS, DESCRIPTORS).start()?;
    // Each process has descriptors of its own.
    let enough = server.group().len() * (DESCRIPTORS as usize + 1);
    let mut clients = Vec::new();
    while let Ok(client) = server.connect()
        && clients.len() < enough
    {
        clients.push(client);
    }
    // A parent notices a child's end when it has the next client for it.
    poll_until("the program's end", PATIENCE, || {
        Ok(server.connect().is_err())
    })?;
    server.wait()?.expect(1)?.says(&["Too many open files"])?;
    Ok(())
}

fn keeps_rules(trial: &Trial) -> Result<()> {
    let minimal =
        trial.subject.minimal.as_ref().context("no minimal program")?;
    let seen = trial.scene_of(minimal, Transport::Tcp)?;
    let promises = trial.subject.promises();
    let about = rules().filter(|rule| {
        (rule.applies_to)(promises)
            && rule.transports.contains(&Transport::Tcp)
            && !LEFT_OUT.contains(&rule.name)
    });
    let about: Vec<_> = about.collect();
    ensure!(!about.is_empty(), "no rule applies to it");
    about.iter().try_for_each(|it| it.check(&seen).context(it.name))
}

fn datagrams(trial: &Trial) -> Result<()> {
    let minimal =
        trial.subject.minimal_datagrams.as_ref().context("no program")?;
    let launch = trial.launch().example(minimal);
    let server = launch.only_udp("127.0.0.1:0").start()?;
    let (first, second) = (server.peer()?, server.peer()?);
    for peer in [&first, &second, &first] {
        peer.send("PING\r\nPING hello\r\n")?;
        peer.expect("+PONG\r\n$5\r\nhello\r\n")?;
    }
    // One signal may report several that arrive together.
    server.freeze()?;
    for _ in 0..10 {
        first.send("PING\r\n")?;
    }
    server.thaw()?;
    for _ in 0..10 {
        first.expect("+PONG\r\n")?;
    }
    Ok(())
}

/// The signal handler interrupts the program and receives the datagram.
fn handler_copies(trial: &Trial) -> Result<()> {
    let minimal =
        trial.subject.minimal_datagrams.as_ref().context("no program")?;
    let seen = trial.scene_of(minimal, Transport::Udp)?;
    let copier = seen.copier()?;
    let interrupts = |step: &Step| {
        step.signal().is_some_and(|(it, _)| it.number == libc::SIGIO)
            && (seen.marks.sending..=copier.at).contains(&step.at)
            && is_delivered(&seen.steps, step)
    };
    ensure!(seen.steps.iter().any(interrupts), "no signal handler ran");
    Ok(())
}
