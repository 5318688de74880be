//! A packet socket on the loopback, which receives a copy of every packet of
//! one port, including its headers. See packet(7).

use std::io::IoSliceMut;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::model::Transport;
use lab::{Unsupported, process};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrLike as _;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::SockRef;

use super::filter;

/// A packet of the loopback, from its Ethernet header on.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When the kernel passed it to the receiving side, since the epoch
    /// (CLOCK_REALTIME).
    pub at: Duration,
    pub bytes: Vec<u8>,
}

/// The message if the process may not open a packet socket.
const NOT_ALLOWED: &str = "a packet socket requires CAP_NET_RAW, which this \
    process does not have: run the command as root, or, if the system permits \
    user namespaces, in a network namespace: unshare -rn sh -c 'ip link set \
    lo up && cargo xtask wire ...'";

/// Longer than any packet: those of the loopback have up to 64 KiB and headers.
const LONGEST: usize = 128 * 1024;

/// The time without a packet after which none will follow. An acknowledgement
/// is delayed by at most 200 ms (TCP_DELACK_MAX in include/net/tcp.h).
const QUIET: Duration = Duration::from_millis(250);

/// The time until the kernel timestamps packets: it begins asynchronously
/// (net_enable_timestamp in net/core/dev.c). Until then, packets get the time
/// at which they are read.
const UNTIL_STAMPED: Duration = Duration::from_millis(20);

/// The time after which a conversation is over, even with retransmissions.
const PATIENCE: Duration = Duration::from_secs(5);

/// More packets than a conversation has, even with retransmissions.
const FRAMES: usize = 10_000;

/// A packet socket. Packets wait in its receive buffer, which has 208 KiB by
/// default (net.core.rmem_default); packets that don't fit are dropped and
/// counted.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Opens a socket that receives nothing yet.
    pub fn open() -> Result<Self> {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            None,
        );
        let socket = match socket {
            Err(Errno::EPERM) => {
                bail!(Unsupported::Tool(NOT_ALLOWED.to_owned()))
            }
            other => other.context("cannot open a packet socket")?,
        };
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .context("SO_TIMESTAMPNS on a packet socket")?;
        thread::sleep(UNTIL_STAMPED);
        Ok(Self { socket })
    }

    /// Starts to receive the packets of the port.
    pub fn watch(&self, transport: Transport, port: u16) -> Result<()> {
        // The filter is attached first, so that no other packet is queued.
        SockRef::from(&self.socket)
            .attach_filter(&filter::program(transport, port))
            .context("SO_ATTACH_FILTER on a packet socket")?;
        let loopback = if_nametoindex("lo").context("no interface lo")?;
        bind(self.socket.as_raw_fd(), &everything_on(loopback))
            .context("binding a packet socket to lo")
    }

    /// Receives packets until none has arrived for [`QUIET`].
    pub fn collect(&self) -> Result<Vec<Frame>> {
        let deadline = Instant::now() + PATIENCE;
        let mut frames = Vec::new();
        let mut buffer = vec![0; LONGEST];
        while Instant::now() < deadline && frames.len() < FRAMES {
            match self.receive(&mut buffer) {
                Ok(frame) => frames.push(frame),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let quiet = Instant::now() + QUIET;
                    if !process::wait_readable(&self.socket, quiet)? {
                        break;
                    }
                }
                Err(errno) => return Err(errno).context("a packet socket"),
            }
        }
        Ok(frames)
    }

    fn receive(&self, buffer: &mut [u8]) -> nix::Result<Frame> {
        let socket = self.socket.as_raw_fd();
        let mut control = cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<LinkAddr>(
            socket,
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let received = message.bytes;
        let at = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(at) => Some(at.into()),
            _ => None,
        });
        let at = at.ok_or(Errno::ENOMSG)?;
        Ok(Frame { at, bytes: buffer[..received].to_vec() })
    }

    /// Returns the number of packets dropped since the last call.
    pub fn dropped(&self) -> Result<u32> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: both outlive the call, which fills the struct and no more
        // than the length says.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        Errno::result(result).context("PACKET_STATISTICS")?;
        Ok(statistics.tp_drops)
    }
}

/// Makes the address for all protocols on an interface. IPv4 and IPv6 are two
/// protocols, and the filter selects their packets.
fn everything_on(interface: libc::c_uint) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is valid for its family, and has this length.
    let address = unsafe {
        LinkAddr::from_raw((&raw const address).cast(), Some(length))
    };
    address.expect("family and length are right")
}
