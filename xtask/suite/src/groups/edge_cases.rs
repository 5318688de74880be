//! The parser's limits: streams just below, at and above each, split at the
//! critical places.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::edges::{self, Edge};
use crate::bytes::{request, unknown};
use crate::case::{Case, Trial};
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    let edges = |name, edges: fn() -> Vec<Edge>| {
        Case::new(name, move |trial| hold(trial, &edges()))
    };
    vec![
        edges("limits::words", edges::words),
        edges("limits::headers", edges::headers),
        edges("limits::numbers", edges::numbers),
        edges("limits::payloads", edges::payloads),
        edges("limits::shown", edges::shown),
        edges("limits::names", edges::names),
        Case::new("limits::max_request", max_request),
        Case::new("limits::max_request_headers", max_request_headers),
    ]
}

/// The number of last bytes that are sent in segments of their own.
const LAST: usize = 10;

/// Usually long enough for the server to read one piece before the next.
const MOMENT: Duration = Duration::from_millis(1);

fn hold(trial: &Trial, edges: &[Edge]) -> Result<()> {
    let server = trial.serve()?;
    for edge in edges {
        holds(&server, edge)?;
    }
    server.connect()?.ping()?;
    Ok(())
}

/// Checks one edge: in one piece, split as it says, and with the last bytes one
/// by one.
fn holds(server: &Server, edge: &Edge) -> Result<()> {
    let whole = [&edge.stream[..]];
    let (first, last) =
        edge.stream.split_at(edge.stream.len().saturating_sub(LAST));
    let one_by_one = [first].into_iter().chain(last.chunks(1)).collect();
    for (pieces, how) in [
        (whole.to_vec(), "in one piece"),
        (edge.pieces(), "in pieces"),
        (one_by_one, "the last bytes one by one"),
    ] {
        hears(server, &pieces, &edge.reply)
            .with_context(|| format!("{edge}: {how}"))?;
    }
    Ok(())
}

/// Sends these pieces, half-closes, and checks everything that comes back.
pub fn hears(server: &Server, pieces: &[&[u8]], reply: &[u8]) -> Result<()> {
    let mut client = server.connect()?;
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            thread::sleep(MOMENT);
        }
        client.send(piece)?;
    }
    client.half_close()?.expect(reply)?.expect_end()?;
    Ok(())
}

const MOST: usize = 1000;
const FLAGS: &str = "--max-request 1000";

/// Checks the limit on the sum of the arguments' bytes, in two arguments and in
/// ten.
fn max_request(trial: &Trial) -> Result<()> {
    let server = trial.serve_with(FLAGS)?;
    let too_long = "-ERR Protocol error: invalid bulk length\r\n";
    let arity = "-ERR wrong number of arguments for 'echo' command\r\n";
    for sum in [MOST - 1, MOST, MOST + 1] {
        let fits = sum <= MOST;
        for count in [2, 10] {
            let mut arguments = vec!["x".repeat(99); count];
            arguments[0] = "ECHO".to_owned();
            let others = 4 + 99 * (count - 2);
            arguments[count - 1] = "x".repeat(sum - others);
            let last = &arguments[count - 1];
            let reply = match (fits, count) {
                (false, _) => too_long.to_owned(),
                (_, 2) => format!("${}\r\n{last}\r\n+PONG\r\n", last.len()),
                _ => arity.to_owned() + "+PONG\r\n",
            };
            let stream = request(&arguments);
            let whole = [&stream[..], b"PING\r\n"].concat();
            holds(&server, &Edge::new(whole, &*reply))?;
            // The last header is enough for the server to decide.
            let header = &stream[..stream.len() - last.len() - 2];
            let reply = if fits { "" } else { too_long };
            holds(&server, &Edge::new(header, reply))?;
        }
    }
    Ok(())
}

/// Checks the limit on all bytes outside arguments: count, headers, line ends.
fn max_request_headers(trial: &Trial) -> Result<()> {
    let server = trial.serve_with(FLAGS)?;
    let too_many = "-ERR Protocol error: invalid multibulk length\r\n";
    let answer = unknown("", &"'' ".repeat(43)) + "+PONG\r\n";
    // The header of a ten-byte argument is one byte longer.
    for (empty, long) in [(162, 3), (161, 4), (160, 5)] {
        let (empty, long) = (vec![""; empty], vec!["0123456789"; long]);
        let stream = request(&[&empty[..], &long].concat());
        let others = stream.len() - 10 * long.len();
        ensure!(others == MOST - 4 + long.len(), "{others} other bytes");
        let reply = if others <= MOST { &*answer } else { too_many };
        let stream = [&stream[..], b"PING\r\n"].concat();
        holds(&server, &Edge::new(stream, reply))?;
    }
    Ok(())
}
