//! Faults that no client can cause: system calls that fail or are interrupted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::process::{limit_address_space, poll_until};
use lab::promises::Answers;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};

use super::super::{Resources, Witness};
use super::expect_rest;
use crate::PATIENCE;
use crate::bytes::{echo, echoes, unknowns};
use crate::case::{Case, For, Trial};
use crate::client::{Client, REJECTION};
use crate::fault::{self, Calls, Fault};
use crate::server::Server;
use crate::skip::skip;

pub fn cases() -> Vec<Case> {
    let again = |name: &'static str, calls, errno| {
        Case::new(name, move |trial| tries_again(trial, calls, errno))
    };
    let accept = |name: &'static str, errno| {
        Case::new(name, move |trial| accept_fails(trial, errno))
    };
    vec![
        Case::new("faults::no_resource_for_new_clients", no_resource)
            .only(For::Many),
        Case::serving("faults::no_memory_for_a_thread", no_memory_for_a_thread)
            .only(For::Promising(|it| it.answers == Answers::OwnThread)),
        accept("faults::accept_out_of_memory", Errno::ENOMEM),
        accept("faults::accept_out_of_buffers", Errno::ENOBUFS),
        accept("faults::accept_out_of_files", Errno::ENFILE),
        accept("faults::accept_out_of_descriptors", Errno::EMFILE),
        accept("faults::accept_forbidden", Errno::EPERM),
        again("faults::accept_aborted", fault::ACCEPT, Errno::ECONNABORTED),
        again("faults::accept_interrupted", fault::ACCEPT, Errno::EINTR),
        again("faults::receive_interrupted", fault::RECEIVE, Errno::EINTR),
        again("faults::send_interrupted", fault::SEND, Errno::EINTR),
        again("faults::wait_interrupted", fault::WAIT, Errno::EINTR),
        Case::new("faults::datagram_out_of_memory", datagram_out_of_memory),
        Case::new("faults::datagram_reply_dropped", datagram_reply_dropped),
        Case::serving("faults::stopped_and_continued", stopped_and_continued),
    ]
}

/// Where fork or the creation of a thread fails, the new connection is
/// rejected, and no other client is affected.
fn no_resource(trial: &Trial) -> Result<()> {
    let fault = Fault::new(fault::CLONE, Errno::EAGAIN);
    let server = trial.launch().fault(&fault).start()?;
    let mut first = server.connect()?;
    first.ping()?;
    let held = Resources::settled(&server)?;
    fault.on();
    let mut new_client = server.new_client()?;
    let served = new_client.was_served().context("the new client")?;
    if fault.affected() == 0 {
        return Err(skip("starts no process and no thread for a client"));
    }
    ensure!(!served, "served, though nothing could be started for it");
    // Its request may have arrived after the rejection, at a closed socket.
    new_client.expect_gone()?;
    for _ in 0..20 {
        server.connect()?.expect(REJECTION)?.expect_end()?;
        first.ping().context("the client that was served before")?;
    }
    held.again(&server)?;
    fault.off();
    server.wait_for_place()?;
    first.ping()?;
    Ok(())
}

/// A new connection is rejected if there is no memory for a thread's stack. The
/// address space is limited for that; no filter is needed.
fn no_memory_for_a_thread(server: &Server) -> Result<()> {
    let mut first = server.connect()?;
    first.ping()?;
    let before = limit_address_space(server.pid, None)?;
    let mut served = Vec::new();
    // Stacks of ended threads are reused first, then there are no more.
    let all = server.bring(&mut served, 100, 1)?;
    ensure!(!all, "100 threads started without address space");
    first.ping().context("the client that was served before")?;
    limit_address_space(server.pid, Some(before))?;
    server.wait_for_place()?;
    first.ping()?;
    Ok(())
}

/// While accept fails, the server neither spins nor exits. Afterwards it serves
/// new clients, and those that waited.
fn accept_fails(trial: &Trial, errno: Errno) -> Result<()> {
    // Each worker of a pool may try once before they take turns.
    const WORKERS: usize = 8;

    let fault = Fault::new(fault::ACCEPT, errno);
    let launch = trial.launch().workers(WORKERS).resting();
    let server = launch.fault(&fault).start()?;
    let mut first = Witness::beside(&server)?;
    first.is_served()?;
    if !fault.was_asked() {
        return Err(skip("accepts without a system call that could fail"));
    }
    fault.on();
    // The first may still be accepted, by a call that had begun before. It
    // sends everything at once, so that a server of one client goes on.
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect()?;
        client.send("PING\r\n")?.half_close()?;
        waiting.push(client);
    }
    let enough = || fault.affected() >= 2;
    poll_until("accept to fail twice", PATIENCE, || Ok(enough()))?;
    let (before, started) = (fault.affected(), Instant::now());
    expect_rest(&server)?;
    let (tried, took) = (fault.affected() - before, started.elapsed());
    // Two attempts every 100 ms: with the spare descriptor and without. On a
    // busy machine the time to look is longer than half a second.
    let most = 20 * took.as_millis() / 500;
    ensure!(tried as u128 <= most, "tried {tried} times within {took:?}");
    first.first_is_served()?;
    fault.off();
    for mut client in waiting {
        // Served or rejected: the last failure may have affected this one.
        client.was_served().context("a new client that had to wait")?;
    }
    server.wait_for_place()?;
    first.is_served()
}

/// A call that fails for a reason unrelated to the client is repeated, and the
/// client notices nothing.
fn tries_again(trial: &Trial, calls: Calls, errno: Errno) -> Result<()> {
    let fault = Fault::new(calls, errno);
    let server = trial.launch().fault(&fault).start()?;
    let (requests, replies) = echoes(5, 100);
    let mut client = server.connect()?;
    for failures in 0..5 {
        fault.affect_next(failures);
        client.send(&requests)?.expect(&replies)?;
    }
    drop(client);
    for failures in 0..5 {
        fault.affect_next(failures);
        server.connect()?.send(&requests)?.expect(&replies)?;
    }
    if fault.affected() == 0 {
        return Err(skip(format!("makes no call that could return {errno:?}")));
    }
    fault.off();
    Ok(())
}

/// At most one datagram is lost when receiving fails; the service goes on.
fn datagram_out_of_memory(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let fault = Fault::new(fault::RECEIVE, Errno::ENOMEM);
    let launch = trial.launch().only_udp("127.0.0.1:0");
    let server = launch.fault(&fault).start()?;
    let peer = server.peer()?;
    peer.send("PING\r\n")?.expect("+PONG\r\n")?;
    if !fault.was_asked() {
        return Err(skip("receives without a system call that could fail"));
    }
    fault.affect_next(2);
    for _ in 0..3 {
        peer.send("PING\r\n")?.expect("+PONG\r\n")?;
    }
    // The message names recvfrom(2), recvmsg(2) or recvmmsg(2).
    server.stderr.wait_for("recv")?;
    Ok(())
}

/// A reply that can't be sent at once is dropped and counted. The replies after
/// it are sent.
fn datagram_reply_dropped(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let fault = Fault::new(fault::SEND, Errno::EAGAIN);
    let launch = trial.launch().only_udp("127.0.0.1:0");
    let server = launch.fault(&fault).start()?;
    let peer = server.peer()?;
    peer.send("PING\r\n")?.expect("+PONG\r\n")?;
    if !fault.was_asked() {
        return Err(skip("sends without a system call that could fail"));
    }
    fault.affect_next(2);
    for word in ["1", "2", "3", "4", "5"] {
        peer.send(echo(word).0)?;
    }
    for word in ["3", "4", "5"] {
        peer.expect(echo(word).1)?;
    }
    let dropped = peer.info()?.number("datagrams_dropped")?;
    ensure!(dropped == 2, "it counts {dropped} dropped replies, not 2");
    Ok(())
}

/// When a process is stopped and continued, calls that wait may return EINTR
/// (signal(7)), at any point. A blocking call that has transferred some bytes
/// by then returns their number, so even a blocking send may be short.
fn stopped_and_continued(server: &Server) -> Result<()> {
    let mut client = Client::with_small_window(server.tcp()?)?;
    let (requests, replies) = unknowns(10_500);
    // More than the server's kernel accepts at once, so the client must wait.
    let (requests, replies) = (requests.repeat(12), replies.repeat(12));
    let sent = client.send_what_fits(&requests)?;
    std::thread::scope(|scope| {
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let group = server.pid;
        scope.spawn(move || {
            let pause = Duration::from_micros(500);
            // Runs until `over` is dropped.
            while is_over.recv_timeout(pause)
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let _ = killpg(group, Signal::SIGSTOP);
                let _ = killpg(group, Signal::SIGCONT);
            }
        });
        client.exchange(&requests[sent..], replies)?;
        for _ in 0..100 {
            client.ping()?;
        }
        drop(client);
        for _ in 0..50 {
            server.connect()?.ping()?;
        }
        drop(over);
        Ok(())
    })
}
