//! Two servers of one thread that send each request back. Both count the system
//! calls that they make for the requests.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use lab::Unsupported;
use nix::errno::Errno;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};

use crate::kit::net;

/// Bytes of a request and of its reply.
pub const LENGTH: usize = 64;

/// The most clients.
const MANY: usize = 32;

/// Serves with epoll: waits, then receives from and sends to each client that
/// is ready.
pub fn with_epoll(servers: &[TcpStream], rounds: usize) -> Result<usize> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, server) in servers.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        epoll.add(server, event)?;
    }
    let patience = EpollTimeout::try_from(net::PATIENCE)?;
    let mut events = [EpollEvent::empty(); MANY];
    let (mut calls, mut missing) = (0, servers.len() * rounds);
    while missing > 0 {
        calls += 1;
        let ready = match epoll.wait(&mut events, patience) {
            // A ring that was closed before can interrupt the call to clean up
            // (io_uring/io_uring.c, io_ring_exit_work).
            Err(Errno::EINTR) => continue,
            ready => ready?,
        };
        ensure!(ready > 0, "no request");
        for event in &events[..ready] {
            let mut server = &servers[event.data() as usize];
            let mut request = [0; LENGTH];
            calls += 1;
            ensure!(server.read(&mut request)? == LENGTH, "a short request");
            calls += 1;
            ensure!(server.write(&request)? == LENGTH, "a short write");
            missing -= 1;
        }
    }
    Ok(calls)
}

/// Serves with io_uring: submits and waits in one call.
pub fn with_ring(servers: &[TcpStream], rounds: usize) -> Result<usize> {
    let mut ring = IoUring::new(2 * MANY as u32).context("io_uring_setup")?;
    if !ring.params().is_feature_skip_cqe_on_success() {
        let why = "io_uring has no IOSQE_CQE_SKIP_SUCCESS".to_owned();
        return Err(Unsupported::Tool(why).into());
    }
    let mut missing = vec![rounds; servers.len()];
    // The kernel may use a buffer until its operations are complete, even if
    // this function returns an error, so the buffers are never freed.
    let buffers = vec![[0_u8; LENGTH]; servers.len()].leak();
    let buffers: Vec<_> =
        buffers.iter_mut().map(|it| it.as_mut_ptr()).collect();
    let receive = |index: usize| {
        let fd = types::Fd(servers[index].as_raw_fd());
        let receive = opcode::Recv::new(fd, buffers[index], LENGTH as u32);
        receive.build().user_data(index as u64)
    };
    for index in 0..servers.len() {
        push(&mut ring, &receive(index))?;
    }
    let mut calls = 0;
    while missing.iter().any(|&requests| requests > 0) {
        calls += 1;
        ring.submit_and_wait(1)?;
        let ended: Vec<_> = ring.completion().collect();
        for entry in ended {
            ensure!(entry.result() == LENGTH as i32, "{entry:?}");
            let index = entry.user_data() as usize;
            let fd = types::Fd(servers[index].as_raw_fd());
            let send = opcode::Send::new(fd, buffers[index], LENGTH as u32);
            missing[index] -= 1;
            // The next receive starts after the send, which uses the buffer
            // before, and whose success needs no completion.
            let mut flags = squeue::Flags::SKIP_SUCCESS;
            flags.set(squeue::Flags::IO_LINK, missing[index] > 0);
            push(&mut ring, &send.build().flags(flags))?;
            if missing[index] > 0 {
                push(&mut ring, &receive(index))?;
            }
        }
    }
    ring.submit()?;
    Ok(calls + 1)
}

/// Adds an entry whose buffer is never freed to the submission queue.
fn push(ring: &mut IoUring, entry: &squeue::Entry) -> Result<()> {
    // SAFETY: the buffer is never freed, and only the kernel uses it.
    unsafe { ring.submission().push(entry) }.context("the submission queue")
}
