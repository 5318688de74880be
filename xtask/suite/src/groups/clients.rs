//! Third-party clients and HAProxy, and Redis as the reference for every byte.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::process::{end_group, which};
use lab::server::{ends_within, pid, tie};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::edge_cases::hears;
use super::edges::edges;
use super::haproxy;
use super::rows::rows;
use super::streams;
use crate::bytes::{difference, request, show};
use crate::case::{Case, Trial};
use crate::redis::Redis;
use crate::reply::Info;
use crate::server::Server;
use crate::skip::skip;

/// The number of random streams that each case sends.
const STREAMS: usize = 400;

/// Longer than any program here needs.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        says("redis_cli::ping", "redis-cli", "-p {} PING", b"", "PONG\n"),
        says(
            "redis_cli::resp3",
            "redis-cli",
            "-3 -p {} ECHO hello",
            b"",
            "hello\n",
        ),
        Case::new("redis_cli::info", redis_cli_info),
        says(
            "redis_cli::commands_from_a_pipe",
            "redis-cli",
            "-p {}",
            b"PING\nECHO 'hello world'\nFOO bar\nPING\n",
            "PONG\nhello world\nERR unknown command 'FOO', \
             with args beginning with: 'bar' \n\nPONG\n",
        ),
        Case::serving("redis_cli::mass_insertion", redis_cli_mass),
        Case::serving("redis_benchmark", redis_benchmark),
        says(
            "nc",
            "nc",
            "127.0.0.1 {}",
            b"PING\r\nECHO \"from nc\"\r\nQUIT\r\n",
            "+PONG\r\n$7\r\nfrom nc\r\n+OK\r\n",
        ),
        Case::new("redis_judges::table", judged_table),
        Case::new("redis_judges::limits", judged_limits),
        Case::new("redis_judges::valid_streams", |trial| {
            judged_streams(trial, streams::valid)
        }),
        Case::new("redis_judges::mutated_streams", |trial| {
            judged_streams(trial, streams::mutated)
        }),
    ];
    cases.extend(haproxy::cases());
    cases
}

/// Runs a program, with the server's port in place of `{}`, and writes `input`
/// to its standard input.
fn run(
    name: &str,
    arguments: &str,
    server: &Server,
    input: &[u8],
) -> Result<Output> {
    let program = which(name)
        .ok_or_else(|| skip(format!("{name} is not on the PATH")))?;
    let port = server.tcp()?.port().to_string();
    let arguments = arguments.replace("{}", &port);
    let mut command = Command::new(program);
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    tie(&mut command, Signal::SIGKILL);
    let mut child =
        command.spawn().with_context(|| format!("cannot start {name}"))?;
    let _guard = Group(pid(&child));
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    // By a thread: the program may read all of it only after some replies.
    std::thread::spawn(move || stdin.write_all(&input));
    // Its output fits into the pipes, so it can end before that is read.
    ensure!(ends_within(pid(&child), HALF_A_MINUTE), "{name} is still running");
    let output = child.wait_with_output().context("reading its output")?;
    let (stdout, stderr) = (show(&output.stdout), show(&output.stderr));
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{name} {arguments}: {}, stdout {stdout}, stderr {stderr}",
        output.status
    );
    Ok(output)
}

/// Kills the program's process group when dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        end_group(self.0);
    }
}

/// Makes a case that runs a program and checks its whole output.
fn says(
    name: &'static str,
    program: &'static str,
    arguments: &'static str,
    input: &'static [u8],
    expected: &'static str,
) -> Case {
    Case::serving(name, move |server| {
        let seen = run(program, arguments, server, input)?.stdout;
        let expected = expected.as_bytes();
        ensure!(seen == expected, "{}", difference(expected, &seen));
        Ok(())
    })
}

fn redis_cli_info(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    let output = run("redis-cli", "-p {} INFO", &server, b"")?;
    let info = Info::parse(&output.stdout)?;
    let model = info.text("model")?;
    ensure!(model == trial.subject.model.name, "its model is {model}");
    Ok(())
}

fn redis_cli_mass(server: &Server) -> Result<()> {
    let input = request(&["PING"]).repeat(100_000);
    let output = run("redis-cli", "-p {} --pipe", server, &input)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("errors: 0, replies: 100000"), "output {said:?}");
    Ok(())
}

fn redis_benchmark(server: &Server) -> Result<()> {
    let clients = server.clients(50);
    let flags = format!(
        "-p {{}} -t ping_inline,ping_mbulk -n 50000 -c {clients} -P 16 --csv"
    );
    let output = run("redis-benchmark", &flags, server, b"")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for test in ["PING_INLINE", "PING_MBULK"] {
        ensure!(said.contains(test), "no {test} in {said:?}");
    }
    for word in ["WARN", "ERR", "rror"] {
        ensure!(!said.contains(word), "output {said:?}");
    }
    Ok(())
}

fn redis(trial: &Trial) -> Result<&Redis> {
    trial.surroundings.redis.as_ref().map_err(skip)
}

/// Checks that Redis gives the replies that the protocol group expects, and
/// that the model gives the same.
fn judged_table(trial: &Trial) -> Result<()> {
    let redis = redis(trial)?;
    let server = trial.serve()?;
    for row in rows().iter().filter(|row| row.request.len() < 16_384) {
        // PING is answered unless the row ends the connection.
        let stream = [&row.request, "PING\r\n".as_bytes()].concat();
        let right = redis.answer(&stream)?;
        let pong = if row.ends { "" } else { "+PONG\r\n" };
        let expected = [&row.reply, pong.as_bytes()].concat();
        ensure!(
            right == expected,
            "the suite is wrong about {}: {}",
            row.name,
            difference(&right, &expected)
        );
        hears(&server, &[&stream], &right)
            .with_context(|| format!("it differs from Redis: {}", row.name))?;
    }
    Ok(())
}

/// Checks that Redis replies at the parser's limits as the edges say, and that
/// the model replies like Redis, except where an edge has two replies.
fn judged_limits(trial: &Trial) -> Result<()> {
    let redis = redis(trial)?;
    let server = trial.serve()?;
    for edge in edges() {
        let right = redis.answer_pieces(&edge.pieces())?;
        ensure!(
            right == edge.redis,
            "the suite is wrong about Redis and {edge}: {}",
            difference(&right, &edge.redis)
        );
        if edge.redis == edge.reply {
            hears(&server, &edge.pieces(), &right)
                .with_context(|| format!("it differs from Redis: {edge}"))?;
        }
    }
    Ok(())
}

/// Sends random streams to the model and to Redis, and compares the replies.
fn judged_streams(
    trial: &Trial,
    generate: fn(&mut fastrand::Rng) -> Vec<u8>,
) -> Result<()> {
    let redis = redis(trial)?;
    let server = trial.serve()?;
    let mut random = trial.random();
    for number in 0..STREAMS {
        let stream = generate(&mut random);
        let right = redis.answer(&stream)?;
        hears(&server, &[&stream], &right).with_context(|| {
            format!(
                "it differs from Redis: stream {number} of --seed {}: \"{}\"",
                trial.surroundings.seed,
                stream.escape_ascii()
            )
        })?;
    }
    Ok(())
}
