//! From start to shutdown: the command line, the ready line, signals, exit
//! codes, and no process left behind.

mod inherited;
mod shutdown;

use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context, Result, ensure};

use crate::case::{Case, For, Trial};
use crate::launch::Launch;
use crate::skip::skip;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("start::ready_line", ready_line),
        Case::new("start::both_services", both_services).only(For::Many),
        Case::new("start::default_address", default_address).alone(),
        Case::new("start::ipv6", ipv6),
        Case::new("start::same_port_again", same_port_again),
        Case::new("start::tcp_address_in_use", tcp_in_use),
        Case::new("start::udp_address_in_use", udp_in_use),
        Case::new("start::second_instance", second_instance),
        Case::new("start::bad_flags", bad_flags),
        Case::new("start::datagrams_from_anywhere", wildcard),
        Case::new("start::flags_for_many", flags_for_many).only(For::One),
        Case::new("start::help", help),
        Case::new("start::raises_descriptor_limit", raises_limit),
    ];
    cases.extend(inherited::cases());
    cases.extend(shutdown::cases());
    cases
}

/// When the ready line is printed, the server is ready: the first attempt to
/// connect succeeds.
fn ready_line(trial: &Trial) -> Result<()> {
    let first = trial.serve()?;
    let second = trial.serve()?;
    for server in [&first, &second] {
        let address = server.tcp()?;
        ensure!(
            address.ip().to_string() == "127.0.0.1",
            "its address is {address}"
        );
        server.connect()?.ping()?;
    }
    ensure!(first.tcp()? != second.tcp()?, "two servers, one address");
    Ok(())
}

fn both_services(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let server = trial.launch().udp("127.0.0.1:0").start()?;
    server.connect()?.ping()?;
    server.peer()?.send("PING\r\n")?.expect("+PONG\r\n")?;
    Ok(())
}

fn default_address(trial: &Trial) -> Result<()> {
    let default: SocketAddr = "127.0.0.1:7379".parse()?;
    if let Err(error) = TcpListener::bind(default) {
        return Err(skip(format!("{default} is not free: {error}")));
    }
    let server = trial.launch().no_flags().start()?;
    ensure!(server.tcp()? == default, "its address is {}", server.tcp()?);
    server.connect()?.ping()?;
    Ok(())
}

fn ipv6(trial: &Trial) -> Result<()> {
    super::needs_ipv6()?;
    let server = trial.launch().tcp("[::1]:0").start()?;
    let address = server.tcp()?;
    ensure!(address.ip().to_string() == "::1", "its address is {address}");
    server.connect()?.ping()?;
    takes_no_ipv4_port(trial)
}

/// An IPv6 address means IPv6 only: on the wildcard, the same port of IPv4
/// stays free for another socket. Other servers of the suite may have the IPv6
/// port by chance, but not three times.
fn takes_no_ipv4_port(trial: &Trial) -> Result<()> {
    let mut started = Ok(());
    for _ in 0..3 {
        let other = TcpListener::bind("127.0.0.1:0")?;
        let port = other.local_addr()?.port();
        let launch = trial.launch().tcp(format!("[::]:{port}"));
        started = launch.start().map(drop);
        if started.is_ok() {
            break;
        }
    }
    started.context("beside an IPv4 socket on the port")
}

/// Connections that the server closed first are in TIME_WAIT, which must not
/// prevent a restart on the same port.
fn same_port_again(trial: &Trial) -> Result<()> {
    let first = trial.serve()?;
    first.connect()?.send("QUIT\r\n")?.expect("+OK\r\n")?.expect_end()?;
    let address = first.tcp()?;
    first.stop()?;
    let second = trial.launch().tcp(address).start()?;
    ensure!(second.tcp()? == address, "its address is {}", second.tcp()?);
    second.connect()?.ping()?;
    Ok(())
}

fn tcp_in_use(trial: &Trial) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    expect_in_use(trial.launch().tcp(address), address)
}

fn udp_in_use(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let taken = UdpSocket::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    expect_in_use(trial.launch().only_udp(address), address)
}

fn expect_in_use(launch: Launch<'_>, address: SocketAddr) -> Result<()> {
    launch.run()?.expect(1)?.says(&[&address.to_string(), "in use"])?;
    Ok(())
}

/// A second server that shared the address, as SO_REUSEPORT allows processes of
/// one user, would silently get some of the clients.
fn second_instance(trial: &Trial) -> Result<()> {
    let streams = trial.serve()?;
    let address = streams.tcp()?;
    expect_in_use(trial.launch().tcp(address), address)?;
    streams.connect()?.ping()?;
    if trial.needs_datagrams().is_err() {
        return Ok(());
    }
    let datagrams = trial.launch().only_udp("127.0.0.1:0").start()?;
    let address = datagrams.udp()?;
    expect_in_use(trial.launch().only_udp(address), address)?;
    datagrams.peer()?.send("PING\r\n")?.expect("+PONG\r\n")?;
    Ok(())
}

fn bad_flags(trial: &Trial) -> Result<()> {
    for (flags, said) in [
        ("--bogus", "--bogus"),
        ("surplus", "surplus"),
        ("--tcp nowhere", "--tcp"),
        ("--tcp 127.0.0.1", "--tcp"),
        ("--udp 127.0.0.1:99999", "--udp"),
        ("--idle-timeout soon", "--idle-timeout"),
        ("--drain-timeout -1", "--drain-timeout"),
        ("--max-request many", "--max-request"),
        ("--max-connections 1.5", "--max-connections"),
    ] {
        trial
            .launch()
            .no_flags()
            .flags(flags)
            .run()
            .and_then(|ended| ended.expect(2)?.says(&[said]))
            .with_context(|| format!("with {flags}"))?;
    }
    Ok(())
}

/// A wildcard socket may reply from another address than the one that was
/// asked, so the flag is rejected.
fn wildcard(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    for address in ["0.0.0.0:0", "[::]:0"] {
        let ended = trial.launch().only_udp(address).run()?;
        ended.expect(2)?.says(&["--udp", address])?;
    }
    Ok(())
}

/// A server of one client at a time cannot wait for two sockets, and has no use
/// for a connection limit.
fn flags_for_many(trial: &Trial) -> Result<()> {
    let both = trial.launch().udp("127.0.0.1:0").run()?;
    both.expect(2)?.says(&["--tcp", "--udp"])?;
    let number = trial.launch().flags("--max-connections 5").run()?;
    number.expect(2)?.says(&["--max-connections"])?;
    Ok(())
}

fn help(trial: &Trial) -> Result<()> {
    let ended = trial.launch().no_flags().flags("--help").run()?;
    ensure!(ended.status.code() == Some(0), "{}", ended.status);
    for flag in ["--tcp", "--udp", "--max-request", "--drain-timeout"] {
        ensure!(ended.stdout.contains(flag), "--help does not mention {flag}");
    }
    Ok(())
}

fn raises_limit(trial: &Trial) -> Result<()> {
    let server = trial.launch().descriptors(64, 512).start()?;
    server.connect()?.ping()?;
    let (soft, hard) = server.process()?.descriptor_limit()?;
    ensure!((soft, hard) == (512, 512), "soft {soft}, hard {hard}");
    Ok(())
}
