//! A packet socket on the loopback: a copy of every packet of one port, with
//! the headers that the kernel has put before it. See packet(7).

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

/// A packet of the loopback, its Ethernet header first.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When the kernel handed it to the receiving side, since the epoch
    /// (CLOCK_REALTIME).
    pub at: Duration,
    pub bytes: Vec<u8>,
}

/// Why there can be no packet socket here.
const NOT_ALLOWED: &str = "a packet socket requires CAP_NET_RAW, which this \
    process does not have: start it as root, or where the system lets \
    everybody have a network of their own, with: unshare -rn sh -c 'ip link \
    set lo up && cargo xtask wire ...'";

/// Longer than any packet: the loopback's may be 64 KiB, and their headers.
const LONGEST: usize = 128 * 1024;

/// After this long without a packet none will follow: an acknowledgement is
/// delayed by 200 ms at most (TCP_DELACK_MAX).
const QUIET: Duration = Duration::from_millis(250);

/// The kernel begins to stamp packets a moment after it was asked to
/// (net_enable_timestamp). Those before get the time at which they are read.
const UNTIL_STAMPED: Duration = Duration::from_millis(20);

/// One conversation is over by then, whatever is sent again.
const PATIENCE: Duration = Duration::from_secs(5);

/// More packets than a conversation has, however much is sent again.
const FRAMES: usize = 10_000;

/// A packet socket. Packets wait in its buffer, 208 KiB unless
/// net.core.rmem_default says otherwise; those that find no room are counted.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// A socket that receives nothing yet.
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

    /// From here on it receives what belongs to the port.
    pub fn watch(&self, transport: Transport, port: u16) -> Result<()> {
        // The filter first, so that nothing else ever gets in.
        SockRef::from(&self.socket)
            .attach_filter(&filter::program(transport, port))
            .context("SO_ATTACH_FILTER on a packet socket")?;
        let loopback = if_nametoindex("lo").context("no interface lo")?;
        bind(self.socket.as_raw_fd(), &everything_on(loopback))
            .context("binding a packet socket to lo")
    }

    /// Collects what has come and still comes, until nothing does any more.
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

    /// How many packets found no room in the buffer since the last question.
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

/// All protocols, for the Internet's are two: the filter chooses.
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
    // SAFETY: it is an address of the family that it says, and of this length.
    let address = unsafe {
        LinkAddr::from_raw((&raw const address).cast(), Some(length))
    };
    address.expect("family and length are right")
}
