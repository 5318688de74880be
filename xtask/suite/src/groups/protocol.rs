//! The protocol: every reply, however the request arrives.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::edge_cases;
use super::rows::{Row, rows};
use crate::bytes::{bulk, echo, echoes, joined, request};
use crate::case::{Case, Trial};
use crate::client::Client;
use crate::reply::{Info, Reply};
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = rows()
        .into_iter()
        .map(|row| Case::new(row.name, move |trial| row_holds(trial, &row)))
        .collect();
    cases.extend([
        Case::new("table::whole", table_whole),
        Case::new("table::in_random_pieces", table_in_random_pieces),
        Case::new("hello_resp2", |trial| hello(trial, "2")),
        Case::new("hello_resp3", |trial| hello(trial, "3")),
        Case::new("hello_without_version", hello_without_version),
        Case::new("hello_with_options", hello_with_options),
        Case::new("info", info),
        Case::new("what_clients_ask_first", what_clients_ask_first),
        Case::new("pipelining::ten_thousand", ten_thousand),
        Case::new("pipelining::without_delay", without_delay).alone(),
        Case::new("payload::one_mebibyte", one_mebibyte),
        Case::new("payload::over_the_limit", over_the_limit),
        Case::new("payload::sum_over_the_limit", sum_over_the_limit),
        Case::new("payload::too_many_arguments", too_many_arguments),
        Case::serving("http_after_requests", http_after_requests),
        Case::new("nothing_after_quit", nothing_after_quit),
        Case::new("nothing_after_an_error", nothing_after_an_error),
    ]);
    cases.extend(edge_cases::cases());
    cases
}

/// Checks one row: in one piece, byte by byte, between other requests, and as
/// the last request before a half-close.
fn row_holds(trial: &Trial, row: &Row) -> Result<()> {
    let server = trial.serve()?;
    let mut client = server.connect()?;
    client.send(&row.request)?.expect(&row.reply)?;
    and_then(&mut client, row).context("in one piece")?;
    drop(client);

    if row.request.len() <= 1024 {
        let mut client = server.connect()?;
        client.send_in_pieces(&row.request, || 1)?.expect(&row.reply)?;
        and_then(&mut client, row).context("byte by byte")?;
    }

    let (before, after) = (echo("before"), echo("after"));
    let mut client = server.connect()?;
    client
        .send([&*before.0, &row.request, &after.0].concat())?
        .expect([&*before.1, &row.reply].concat())
        .context("between other requests")?;
    if !row.ends {
        client.expect(after.1).context("after it")?;
    }
    and_then(&mut client, row).context("between other requests")?;
    drop(client);

    let mut client = server.connect()?;
    client.send(&row.request)?.half_close()?;
    client
        .expect(&row.reply)
        .and_then(Client::expect_end)
        .context("half-closed")?;
    Ok(())
}

/// Expects EOF if the row ends the connection; else checks that it goes on.
fn and_then(client: &mut Client, row: &Row) -> Result<()> {
    if row.ends { client.expect_end() } else { client.ping() }.map(drop)
}

/// Joins all rows that do not end the connection, and the replies to them.
fn stream() -> (Vec<u8>, Vec<u8>) {
    let rows = rows().into_iter().filter(|row| !row.ends);
    joined(rows.map(|row| (row.request, row.reply)))
}

fn table_whole(trial: &Trial) -> Result<()> {
    let (sent, expected) = stream();
    let server = trial.serve()?;
    server.connect()?.send(sent)?.expect(expected)?.ping()?;
    Ok(())
}

fn table_in_random_pieces(trial: &Trial) -> Result<()> {
    let (sent, expected) = stream();
    let mut client = trial.client()?;
    let mut random = trial.random();
    for _ in 0..20 {
        let size = || {
            let most = if random.bool() { 8 } else { 800 };
            random.usize(1..=most)
        };
        client.send_in_pieces(&sent, size)?.expect(&expected)?;
    }
    client.ping()?;
    Ok(())
}

/// Checks the members of HELLO's reply, which are the same in both versions.
fn check_hello(reply: &Reply, version: i64) -> Result<()> {
    let (Reply::Map(seen) | Reply::Array(seen)) = reply else {
        anyhow::bail!("expected members, seen {reply:?}");
    };
    let text = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    ensure!(seen.len() == 14, "expected 7 members, seen {seen:?}");
    let (server, release, id) = (&seen[1], &seen[3], &seen[7]);
    let expected = [
        ("server", server.clone()),
        ("version", release.clone()),
        ("proto", Reply::Integer(version)),
        ("id", id.clone()),
        ("mode", text("standalone")),
        ("role", text("master")),
        ("modules", Reply::Array(vec![])),
    ];
    let expected = expected.map(|(key, value)| [text(key), value]).concat();
    ensure!(*seen == expected, "expected {expected:?}, seen {seen:?}");
    let texts = matches!((server, release), (Reply::Bulk(_), Reply::Bulk(_)));
    let number = matches!(id, Reply::Integer(_));
    ensure!(texts && number, "a member of another type: {seen:?}");
    Ok(())
}

fn hello(trial: &Trial, version: &str) -> Result<()> {
    let mut client = trial.client()?;
    let reply = client.send(request(&["HELLO", version]))?.reply()?;
    check_hello(&reply, version.parse()?)?;
    ensure!(
        matches!(reply, Reply::Map(_)) == (version == "3"),
        "a map in RESP3, an array in RESP2: {reply:?}"
    );
    client.ping()?.send("INFO\r\n")?;
    let info = client.reply()?;
    Info::from_reply(&info)?;
    ensure!(
        matches!(info, Reply::Verbatim(..)) == (version == "3"),
        "a verbatim string in RESP3, a bulk string in RESP2: {info:?}"
    );
    Ok(())
}

/// HELLO without a version keeps the version, which is 2 at first.
fn hello_without_version(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    for (request, version) in
        [("HELLO", 2), ("HELLO 3", 3), ("HELLO", 3), ("HELLO 2", 2)]
    {
        let reply = client.send(request)?.send("\r\n")?.reply()?;
        check_hello(&reply, version).context(request)?;
    }
    // A rejected version changes nothing.
    client.send("HELLO 4\r\n")?;
    client.expect("-NOPROTO unsupported protocol version\r\n")?;
    check_hello(&client.send("HELLO\r\n")?.reply()?, 2)
}

/// Client libraries open connections like this.
fn hello_with_options(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    let hello = request(&["HELLO", "3", "SETNAME", "me"]);
    check_hello(&client.send(hello)?.reply()?, 3)?;
    client.ping()?;
    Ok(())
}

fn info(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let mut client = server.connect()?;
    let info = client.info()?;
    let (model, variant) = (info.text("model")?, info.text("variant")?);
    ensure!(model == trial.subject.model.name, "its model is {model}");
    ensure!(variant == trial.subject.variant.name, "its variant is {variant}");
    let pid = i32::try_from(info.number("pid")?)?;
    let group = server.group();
    let process = group.iter().find(|process| process.pid.as_raw() == pid);
    let process = process.with_context(|| format!("no process is {pid}"))?;
    let tid = info.number("tid")?;
    let threads = process.thread_ids();
    ensure!(threads.contains(&tid), "no thread of {pid} is {tid}: {threads:?}");
    for key in ["clients", "accepted", "rejected"] {
        info.number(key)?;
    }
    // The reply is the same if a section is requested.
    client.send("INFO server\r\n")?;
    Info::from_reply(&client.reply()?)?;
    client.ping()?;
    Ok(())
}

/// Clients accept any reply to these, but need exactly one for each. Most send
/// them in one write.
fn what_clients_ask_first(trial: &Trial) -> Result<()> {
    let requests = [
        "COMMAND",
        "COMMAND DOCS",
        "COMMAND COUNT",
        "CONFIG GET save",
        "CONFIG GET appendonly",
        "CLIENT SETNAME me",
        "CLIENT SETINFO LIB-NAME me",
        "CLIENT SETINFO LIB-VER 1.0",
        "CLIENT ID",
        "CLIENT GETNAME",
    ];
    let server = trial.serve()?;
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = server.connect()?;
        client.send(hello)?.send("\r\n")?.reply()?;
        for request in requests {
            client.send(request)?.send("\r\n")?.reply().context(request)?;
            client.ping().with_context(|| format!("after {request}"))?;
        }
        client.send(requests.join("\r\n") + "\r\n")?;
        for request in requests {
            client.reply().context(request)?;
        }
        client.ping().context("after all of them")?;
    }
    Ok(())
}

fn ten_thousand(trial: &Trial) -> Result<()> {
    let (requests, replies) = echoes(10_000, 10);
    let server = trial.serve()?;
    server.connect()?.exchange(&requests, &replies)?.ping()?;
    Ok(())
}

/// A server that sends every reply separately without TCP_NODELAY waits for an
/// acknowledgement, which this side delays by 40 ms (Nagle's algorithm,
/// tcp(7)).
fn without_delay(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    let (first, second) = ("PING\r\n".repeat(8), "+PONG\r\n".repeat(8));
    let started = Instant::now();
    for _ in 0..50 {
        client.send(&first)?.send(&first)?;
        client.expect(&second)?.expect(&second)?;
    }
    let took = started.elapsed();
    ensure!(
        took < Duration::from_secs(1),
        "50 rounds took {took:?}, as if each had waited for 40 ms"
    );
    Ok(())
}

fn one_mebibyte(trial: &Trial) -> Result<()> {
    let (sent, expected) = echoes(1, (1 << 20) - "ECHO".len());
    let mut client = trial.client()?;
    for _ in 0..3 {
        client.exchange(&sent, &expected)?;
    }
    client.ping()?;
    Ok(())
}

const INVALID_BULK: &str = "-ERR Protocol error: invalid bulk length\r\n";

/// The header is enough: the server does not wait for the payload.
fn over_the_limit(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--max-request 1000")?;
    let payload = bulk("x".repeat(996));
    let fits = [b"*2\r\n$4\r\nECHO\r\n".as_slice(), &payload].concat();
    let mut client = server.connect()?;
    client.send(fits)?.expect(payload)?;
    client.send("*2\r\n$4\r\nECHO\r\n$1001\r\n")?;
    client.expect(INVALID_BULK)?.expect_end()?;
    Ok(())
}

fn sum_over_the_limit(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--max-request 1000")?;
    let mut client = server.connect()?;
    client.send("*2\r\n$4\r\nECHO\r\n$997\r\n")?;
    client.expect(INVALID_BULK)?.expect_end()?;
    Ok(())
}

/// Empty arguments have no bytes, but each has a header and an entry in a
/// table, so they count too.
fn too_many_arguments(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--max-request 100000")?;
    let mut client = server.connect()?;
    // The announced count is valid; the arguments that arrive exceed the limit.
    client.send("*1000000\r\n")?;
    let flood = "$0\r\n\r\n".repeat(1_000_000);
    let mut writer = client.twin()?;
    let flood = thread::spawn(move || writer.send(flood).map(drop));
    let Reply::Error(error) = client.reply()? else {
        anyhow::bail!("expected an error");
    };
    ensure!(error.starts_with("ERR Protocol error: "), "seen {error:?}");
    client.expect_end()?;
    // The server need not have read the whole flood.
    drop(client);
    let _ = flood.join();
    server.connect()?.ping()?;
    Ok(())
}

/// Like Redis, the server sends no reply to a browser, but it answers the
/// requests before.
fn http_after_requests(server: &Server) -> Result<()> {
    for line in ["POST / HTTP/1.1", "Host: example.org", "post", "host:"] {
        let mut client = server.connect()?;
        client.send(format!("PING\r\n{line}\r\nPING\r\n"))?;
        client.expect("+PONG\r\n")?.expect_end().context(line)?;
    }
    Ok(())
}

fn nothing_after_quit(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    client.send("PING\r\nQUIT\r\nPING\r\n*1\r\n$x\r\n")?;
    client.expect("+PONG\r\n+OK\r\n")?.expect_end()?;
    Ok(())
}

fn nothing_after_an_error(trial: &Trial) -> Result<()> {
    let mut client = trial.client()?;
    client.send("PING\r\n*1\r\n$x\r\nPING\r\nQUIT\r\n")?;
    client.expect("+PONG\r\n")?.expect(INVALID_BULK)?.expect_end()?;
    Ok(())
}
