//! Streams: how connections begin, go on and end, and how one client's end or
//! slowness affects the others.

mod many;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::limits::{expect_rest, expect_rest_for};
use super::{Price, Resources, Witness};
use crate::bytes::{echo, echoes, payload, unknowns};
use crate::case::{Case, Trial};
use crate::client::Client;
use crate::server::Server;

/// The number of requests whose replies have 600,000 bytes.
const MANY_REPLIES: usize = 10_500;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::serving("order_of_closing", order_of_closing),
        Case::serving("silent_client", silent_client),
        Case::new("ending::quit_delivers_every_byte", |trial| {
            ending_delivers(trial, b"QUIT\r\n", b"+OK\r\n")
        }),
        Case::new("ending::error_delivers_every_byte", |trial| {
            let error = b"-ERR Protocol error: invalid bulk length\r\n";
            ending_delivers(trial, b"*1\r\n$x\r\n", error)
        }),
        Case::serving("ending::half_close_delivers_every_byte", half_close),
        Case::serving("ending::half_close_without_reading", half_stuck),
        Case::serving("ending::half_close_at_once", half_close_at_once),
        Case::new("ending::half_close_in_mid_request", half_close_in_request),
        Case::serving("ending::waits_two_seconds", waits_two_seconds)
            .mostly_waits(),
        Case::serving("reset::in_mid_request", reset_in_mid_request),
        Case::serving("reset::in_mid_reply", reset_in_mid_reply),
        Case::serving("reset::before_accept", reset_before_accept),
        Case::serving("reset::after_quit", reset_after_quit),
        Case::serving("slow::reader_gets_every_byte", slow_reader),
        Case::new("slow::reader_costs_bounded_memory", slow_reader_memory),
        Case::serving("slow::reader_goes_on", slow_reader_goes_on),
        Case::new("slow::reader_costs_no_time", slow_reader_costs_no_time),
        Case::serving("slow::writer", slow_writer),
        Case::new("slow::large_request_in_pieces", large_request_in_pieces),
        Case::serving("urgent::later_data_is_read", urgent_byte),
        Case::new("urgent::then_the_server_rests", rest_after_urgent_byte),
    ];
    cases.extend(many::cases());
    cases
}

/// Connect, request, reply, close: afterwards the server keeps nothing.
fn order_of_closing(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let mut client = server.connect()?;
    client.send("PING\r\n")?.expect("+PONG\r\n")?;
    client.half_close()?.expect_end()?;
    before.again(server)
}

/// A client that connects and sends nothing gets no reply and is not closed,
/// and it is served when it sends a request.
fn silent_client(server: &Server) -> Result<()> {
    let mut silent = server.connect()?;
    if !server.serves_one {
        server.connect()?.ping().context("beside a silent client")?;
    }
    silent.ping()?.expect_silence(Duration::from_millis(100))?;
    silent.ping()?;
    drop(silent);
    let silent = server.connect()?;
    drop(silent);
    server.connect()?.ping().context("after a silent client")?;
    Ok(())
}

/// Replies of 600,000 bytes are on their way when the connection ends, and
/// there is input that the server will never read. A plain close would reset
/// the connection and destroy the replies.
fn ending_delivers(trial: &Trial, end: &[u8], last: &[u8]) -> Result<()> {
    let server = trial.serve()?;
    for (mut client, times) in readers(&server)? {
        let (requests, replies) = unknowns(MANY_REPLIES);
        let unread = vec![b'x'; 100_000];
        let requests = [&requests.repeat(times), end, &unread].concat();
        let replies = [&replies.repeat(times), last].concat();
        // Until neither side can go on, because the server's buffers are full.
        let sent = client.send_what_fits(&requests)?;
        client.exchange(&requests[sent..], &replies)?.expect_end()?;
    }
    Ok(())
}

/// Connects a client that reads as fast as it can and one that reads slowly,
/// and returns with each how many times it is to request `MANY_REPLIES`. For
/// the slow one that is more than the server's kernel accepts, so that the
/// server has pending output.
fn readers(server: &Server) -> Result<Vec<(Client, usize)>> {
    // In this order, since a server of one client serves the first one first.
    let quick = server.connect()?;
    let slow = Client::with_small_window(server.tcp()?)?;
    Ok(vec![(quick, 1), (slow, 12)])
}

fn half_close(server: &Server) -> Result<()> {
    for (mut client, times) in readers(server)? {
        let (requests, replies) = unknowns(MANY_REPLIES);
        let (requests, replies) =
            (requests.repeat(times), replies.repeat(times));
        let sent = client.send_what_fits(&requests)?;
        thread::scope(|scope| {
            let mut writer = client.twin()?;
            let rest = &requests[sent..];
            scope.spawn(move || writer.send(rest)?.half_close().map(drop));
            client.expect(&replies)?.expect_end().map(drop)
        })?;
    }
    Ok(())
}

/// EOF is read when the server's send buffer is full, but the server has not
/// stopped reading. That is a window of 256 KiB of replies, and the size of the
/// send buffer is not known, so the case tries steps of 200,000 bytes.
fn half_stuck(server: &Server) -> Result<()> {
    let (requests, replies) = unknowns(3_500);
    for times in 5..=21 {
        let mut client = Client::with_small_window(server.tcp()?)?;
        client.send(requests.repeat(times))?.half_close()?;
        client
            .wait_until_settled()?
            .widen()?
            .expect(replies.repeat(times))
            .and_then(Client::expect_end)
            .with_context(|| format!("{times} times 200,000 bytes"))?;
    }
    Ok(())
}

/// EOF arrives together with the request.
fn half_close_at_once(server: &Server) -> Result<()> {
    for _ in 0..20 {
        let mut client = server.connect()?;
        client.send("PING\r\n")?.half_close()?;
        client.expect("+PONG\r\n")?.expect_end()?;
    }
    server.connect()?.half_close()?.expect_end()?;
    Ok(())
}

/// A complete request is answered, a partial one is dropped.
fn half_close_in_request(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    client.send("PING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhel")?.half_close()?;
    client.expect("+PONG\r\n")?.expect_end()?;
    Ok(())
}

/// A client that got EOF but does not leave is read from for two seconds, then
/// closed.
fn waits_two_seconds(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let quit = || -> Result<Client> {
        let mut client = server.connect()?;
        client.send("QUIT\r\n")?.expect("+OK\r\n")?.expect_end()?;
        Ok(client)
    };
    // Nothing wakes the server for a client that is silent.
    let silent = (!server.serves_one).then(quit).transpose()?;
    let mut client = quit()?;
    let started = Instant::now();
    client.dribble()?;
    let took = started.elapsed().as_secs_f64();
    ensure!((1.5..5.0).contains(&took), "closed after {took:.1} s, not 2");
    before.again(server).context("beside a silent client")?;
    drop(silent);
    server.connect()?.ping()?;
    Ok(())
}

fn reset_in_mid_request(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let mut witness = Witness::beside(server)?;
    for part in ["*2\r\n$4\r\nECHO\r\n$10", "PING\r\nPI", "*"] {
        for _ in 0..10 {
            let mut client = server.connect()?;
            client.send(part)?;
            client.reset()?;
        }
        witness.is_served()?;
    }
    drop(witness);
    before.again(server)
}

fn reset_in_mid_reply(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let mut witness = Witness::beside(server)?;
    let (requests, _) = unknowns(MANY_REPLIES);
    for _ in 0..10 {
        let mut client = Client::with_small_window(server.tcp()?)?;
        client.send_what_fits(&requests)?;
        // The server has begun to reply; the rest of its replies meets the
        // reset.
        client.expect("-ERR unknown command 'x0000'")?;
        client.reset()?;
        witness.is_served()?;
    }
    drop(witness);
    before.again(server)
}

/// The connection is reset before the server can accept it.
fn reset_before_accept(server: &Server) -> Result<()> {
    server.freeze()?;
    for _ in 0..10 {
        server.connect()?.reset()?;
        let mut client = server.connect()?;
        client.send("PING\r\n")?;
        client.reset()?;
    }
    server.thaw()?;
    server.connect()?.ping()?;
    Ok(())
}

fn reset_after_quit(server: &Server) -> Result<()> {
    let before = Resources::of(server)?;
    let mut witness = Witness::beside(server)?;
    for _ in 0..10 {
        let mut client = server.connect()?;
        client.send("QUIT\r\n")?.expect("+OK\r\n")?;
        client.reset()?;
        witness.is_served()?;
    }
    drop(witness);
    before.again(server)
}

/// Sends eight million bytes through a window of a few thousand. That is twice
/// the size that a send buffer grows to (tcp(7), tcp_wmem), so sends are short.
fn slow_reader(server: &Server) -> Result<()> {
    let (requests, replies) = echoes(800, 10_000);
    let mut client = Client::with_small_window(server.tcp()?)?;
    let sent = client.send_what_fits(&requests)?;
    client.exchange(&requests[sent..], replies)?.ping()?;
    Ok(())
}

/// A client sends requests and never reads, so the server must stop reading.
fn slow_reader_memory(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--max-request 65536")?;
    let mut client = Client::with_small_window(server.tcp()?)?;
    client.ping()?;
    let mut price = Price::new(&server, 65_536);
    client.stuff(b"INFO\r\n", |taken| price.watch(taken))?;
    price.check()?;
    client.reset()
}

/// The requests of a client that does not read stay unread. A server that is
/// notified of them again and again uses the CPU for nothing.
fn slow_reader_costs_no_time(trial: &Trial) -> Result<()> {
    let server = trial.launch().resting().start()?;
    let mut client = Client::with_small_window(server.tcp()?)?;
    client.stuff(b"INFO\r\n", |_| Ok(()))?;
    expect_rest(&server)?;
    client.reset()
}

/// A client that did not read for a while gets everything when it does.
fn slow_reader_goes_on(server: &Server) -> Result<()> {
    // More than both sides' buffers, and several times the high-water and the
    // low-water mark.
    let (requests, replies) = unknowns(65_536);
    let requests = requests.repeat(3);
    let replies = replies.repeat(3);
    let mut client = Client::with_small_window(server.tcp()?)?;
    let mut sent = 0;
    loop {
        let count = client.send_what_fits(&requests[sent..])?;
        sent += count;
        if count == 0 && client.is_stuck(Duration::from_millis(100))? {
            break;
        }
        if sent == requests.len() {
            break;
        }
    }
    client.exchange(&requests[sent..], replies)?.ping()?;
    Ok(())
}

/// A request that arrives in small pieces holds up no other client.
fn slow_writer(server: &Server) -> Result<()> {
    let mut witness = Witness::beside(server)?;
    let (request, reply) = echo(payload(1, 40));
    let mut slow = server.connect()?;
    for piece in request.chunks(3) {
        slow.send(piece)?;
        if !server.serves_one {
            witness.is_served()?;
        }
    }
    slow.expect(reply)?.ping()?;
    drop(slow);
    witness.is_served()
}

fn large_request_in_pieces(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let (request, reply) = echo(payload(2, 300_000));
    let mut random = trial.random();
    let mut client = server.connect()?;
    client.send_in_pieces(&request, || random.usize(1..=5000))?;
    client.expect(reply)?.ping()?;
    Ok(())
}

/// A recv ends before an urgent byte, however much follows (tcp(7),
/// SIOCATMARK). The byte is part of the stream (SO_OOBINLINE).
fn urgent_byte(server: &Server) -> Result<()> {
    let mut client = server.connect()?;
    client.ping()?;
    server.freeze()?;
    client.send("PING before\r\nPIN")?.send_urgent(b'G')?;
    client.send(" after\r\n")?.wait_until_arrived()?;
    server.thaw()?;
    client.expect("$6\r\nbefore\r\n$5\r\nafter\r\n")?;
    Ok(())
}

/// After an urgent byte a server may receive until EAGAIN, because a short recv
/// doesn't mean that the socket is drained. Then it must rest.
fn rest_after_urgent_byte(trial: &Trial) -> Result<()> {
    let server = trial.launch().resting().start()?;
    let mut client = server.connect()?;
    client.ping()?.send("PIN")?.send_urgent(b'G')?;
    client.send("\r\n")?.expect("+PONG\r\n")?;
    expect_rest_for(&server, Duration::from_millis(100))
}
