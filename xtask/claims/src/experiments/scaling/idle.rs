//! Idle connections: how many there are, and the memory that they need.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::getpid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::kit::memory;
use crate::sample::Sample;

/// An idle connection: the client's socket and the server's.
pub type Connection = (TcpStream, TcpStream);

/// Connections per measurement of memory.
const BATCH: usize = 500;
/// The option's number in the kernel's <linux/in.h>.
const IP_LOCAL_PORT_RANGE: i32 = 51;

/// Returns a TCP socket that is reset when it is closed. Thousands of closed
/// connections would otherwise remain in TIME_WAIT and occupy their ports.
pub fn socket() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

/// Opens a connection from this address, with a port that the kernel chooses.
pub fn open(listener: &TcpListener, from: Ipv4Addr) -> Result<Connection> {
    connect(socket()?, listener, from)
}

/// Opens a connection with this client socket.
pub fn connect(
    client: Socket,
    listener: &TcpListener,
    from: Ipv4Addr,
) -> Result<Connection> {
    // The kernel is to choose the port in connect, when it knows the server's
    // address; in bind it would choose only ports that no other socket has.
    setsockopt(&client, sockopt::IpBindAddressNoPort, &true)?;
    client.bind(&SocketAddr::from((from, 0)).into())?;
    client.connect(&listener.local_addr()?.into())?;
    let (server, _) = listener.accept().context("accept")?;
    Ok((client.into(), server))
}

/// Returns the error number of a failed call.
pub fn errno(error: &anyhow::Error) -> Option<Errno> {
    let error = error.downcast_ref::<io::Error>()?;
    error.raw_os_error().map(Errno::from_raw)
}

/// Returns the first and the last port from which the kernel chooses the port
/// of a client.
pub fn client_ports() -> Result<(u16, u16)> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = fs::read_to_string(path)?;
    let mut bounds = text.split_whitespace().map(str::parse);
    let first = bounds.next().context(path)??;
    let last = bounds.next().context(path)??;
    Ok((first, last))
}

/// Lets the kernel choose this socket's port from the last `count` of the
/// machine's range only.
pub fn restrict_ports(socket: &Socket, count: u16) -> Result<()> {
    let (_, last) = client_ports()?;
    let first = last.saturating_sub(count - 1);
    // The upper half of the option is the last port, see
    // IP_LOCAL_PORT_RANGE(2const).
    let range = u32::from(last) << 16 | u32::from(first);
    // SAFETY: the kernel reads four bytes, the size of the integer, which
    // outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw const range).cast(),
            size_of_val(&range) as libc::socklen_t,
        )
    };
    match Errno::result(result) {
        Err(Errno::ENOPROTOOPT) => bail!(lab::Unsupported::Tool(
            "the kernel has no IP_LOCAL_PORT_RANGE".to_owned()
        )),
        result => result.map(drop).context("IP_LOCAL_PORT_RANGE"),
    }
}

/// The memory of one idle connection, both ends together, in KiB.
#[derive(Debug)]
pub struct Memory {
    /// The kernel's objects: socket, inode, file and so on.
    pub kernel: Sample,
    /// The pages of the process.
    pub user: Sample,
    /// The buffers: what the kernel counts as TCP's memory.
    pub buffers: Sample,
}

/// Opens connections in batches, and measures what each batch adds. The
/// connections are returned, because closed ones would leave free objects for
/// the next batch.
pub fn measure(
    listener: &TcpListener,
    batches: usize,
) -> Result<(Memory, Vec<Connection>)> {
    let descriptors = 2 * (batches + 1) * BATCH;
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?.0;
    let why = format!("{descriptors} descriptors are needed, {limit} allowed");
    ensure!(limit > descriptors as u64, lab::Unsupported::Tool(why));
    let mut connections = Vec::with_capacity(descriptors);
    let mut values = [const { Vec::new() }; 3];
    // The first batch fills free objects of the kernel, so it doesn't count.
    for batch in 0..=batches {
        let before = state()?;
        for _ in 0..BATCH {
            connections.push(open(listener, Ipv4Addr::LOCALHOST)?);
        }
        for ((values, before), after) in
            values.iter_mut().zip(before).zip(state()?)
        {
            if batch > 0 {
                values.push((after - before) / BATCH as f64);
            }
        }
    }
    let [kernel, user, buffers] = values.map(Sample::new);
    Ok((Memory { kernel, user, buffers }, connections))
}

/// Returns the kernel's objects, this process's pages and TCP's buffers.
fn state() -> Result<[f64; 3]> {
    Ok([
        memory::of_machine("Slab")?,
        memory::of_process(getpid(), "VmRSS")?,
        memory::of_tcp()?,
    ])
}
