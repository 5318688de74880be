//! Models that ask which sockets are ready, or try every one: how many sockets
//! they can handle, and what that costs.

use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, Result, ensure};
use lab::promises::WaitsIn;
use nix::errno::Errno;

use crate::case::{Case, For, Trial};
use crate::client::{Client, REJECTION};
use crate::server::Server;

/// The number of descriptors that an fd_set of select(2) has bits for.
const FD_SETSIZE: usize = libc::FD_SETSIZE;

pub fn cases() -> Vec<Case> {
    let select = |name: &str, body: fn(&Trial) -> Result<()>| {
        Case::new(name, body)
            .only(For::Promising(|it| it.waits_in == WaitsIn::Select))
    };
    vec![
        Case::new("empty_calls_while_idle", empty_calls)
            .only(For::Promising(|it| it.waits_in == WaitsIn::Nothing)),
        select("set_size::clients_beyond", beyond).crowd(1_100),
        select("set_size::number_beyond", number_beyond).crowd(1_100),
        select("set_size::few_bits_left", few_bits_left),
        select("set_size::no_bit_for_the_listener", no_bit),
        Case::serving("two_thousand_clients", two_thousand)
            .only(For::Promising(|it| it.waits_in == WaitsIn::Poll))
            .crowd(2_000),
    ]
}

/// A model that never waits makes calls that return EAGAIN all the time; fewer
/// with a pause between rounds.
fn empty_calls(trial: &Trial) -> Result<()> {
    let window = Duration::from_millis(300);
    let measure = |server: &Server| -> Result<u64> {
        let mut client = server.connect()?;
        let before = client.info()?.number("empty_calls")?;
        thread::sleep(window);
        let after = client.info()?.number("empty_calls")?;
        Ok(after - before)
    };
    let busy = measure(&*trial.serve()?)?;
    ensure!(busy >= 1_000, "{busy} empty calls within {window:?}: it waits");
    let paused = trial.serve_with("--pause-us 100000")?;
    let paused = measure(&paused)?;
    // Three or four rounds, each with a call for the listener and the client.
    ensure!(
        (2..=16).contains(&paused),
        "{paused} empty calls within {window:?}, ten rounds a second"
    );
    Ok(())
}

/// A client whose descriptor is beyond FD_SETSIZE is rejected. The others are
/// served, and a new client is served once one of them has left.
fn beyond(trial: &Trial) -> Result<()> {
    let server = trial.serve()?;
    fill(&server, 1_100).map(drop)
}

/// A higher connection limit is used, but no descriptor beyond FD_SETSIZE,
/// because its bit would be written outside the set.
fn number_beyond(trial: &Trial) -> Result<()> {
    let server = trial.serve_with("--max-connections 2000")?;
    let room = FD_SETSIZE - server.process()?.descriptors();
    server.stderr.wait_for("FD_SETSIZE")?;
    let served = fill(&server, 1_100)?;
    ensure!(served == room, "{served} served, and there were {room} bits");
    Ok(())
}

/// Descriptors that the server has inherited occupy bits, too.
fn few_bits_left(trial: &Trial) -> Result<()> {
    let server = trial
        .launch()
        .inheriting(|| open_descriptors(900))
        .flags("--max-connections 2000")
        .start()?;
    let room = FD_SETSIZE - server.process()?.descriptors();
    ensure!((1..124).contains(&room), "there are {room} bits left");
    let served = fill(&server, 200)?;
    ensure!(served == room, "{served} served, and there were {room} bits");
    Ok(())
}

/// A server without bits for its own sockets cannot work, and says so.
fn no_bit(trial: &Trial) -> Result<()> {
    for count in [1_022, 1_024, 1_100] {
        let launch = trial.launch().udp("127.0.0.1:0");
        launch
            .inheriting(move || open_descriptors(count))
            .run()
            .and_then(|ended| ended.expect(1)?.says(&["FD_SETSIZE"]))
            .with_context(|| format!("with {count} open files"))?;
    }
    Ok(())
}

/// Opens every descriptor below `count` before the server opens its first. Some
/// of the numbers are in use by the suite, with descriptors that exec would
/// close; these are replaced.
fn open_descriptors(count: i32) -> io::Result<()> {
    for number in libc::STDERR_FILENO + 1..count {
        // SAFETY: dup2 takes numbers only; the process is about to exec another
        // program.
        let fd = unsafe { libc::dup2(libc::STDERR_FILENO, number) };
        Errno::result(fd)?;
    }
    Ok(())
}

/// Connects this many clients, more than there is room for, and returns how
/// many were served. Checks that these are still served, and that another can
/// connect when one leaves.
fn fill(server: &Server, clients: usize) -> Result<usize> {
    let mut served = Vec::new();
    ensure!(!server.bring(&mut served, clients, 1)?, "all are served");
    let count = served.len();
    let late = server.admitted(clients - count - 1)?.len();
    ensure!(late == 0, "{late} are served after others were rejected");
    Client::ping_all(&mut served)?;
    // The last client has the highest descriptor, the first one the lowest.
    for index in [served.len() - 1, 0] {
        served.swap_remove(index).leave()?;
        served.push(server.wait_for_place()?);
        server.connect()?.expect(REJECTION)?.expect_end()?;
    }
    Client::ping_all(&mut served).context("after some were replaced")?;
    Ok(count)
}

/// The array that poll(2) takes has no fixed size.
fn two_thousand(server: &Server) -> Result<()> {
    let mut clients = server.connect_many(2_000)?;
    for _ in 0..2 {
        Client::ping_all(&mut clients)?;
    }
    Ok(())
}
