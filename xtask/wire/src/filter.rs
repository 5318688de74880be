//! The classic BPF program that the kernel runs on every packet of the
//! loopback, see Documentation/networking/filter.rst of Linux.

use lab::model::Transport;
use libc::{BPF_ABS, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_LD, BPF_RET, BPF_W};
use socket2::SockFilter;

/// Instructions that load a word, a half-word or a byte into the accumulator.
const WORD: u32 = BPF_LD | BPF_W | BPF_ABS;
const HALF: u32 = BPF_LD | BPF_H | BPF_ABS;
const BYTE: u32 = BPF_LD | BPF_B | BPF_ABS;

/// The direction of a packet, which the kernel provides as ancillary data.
const DIRECTION: u32 =
    (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;

const TYPE_IPV4: u32 = libc::ETH_P_IP.cast_unsigned();
const TYPE_IPV6: u32 = libc::ETH_P_IPV6.cast_unsigned();

/// Offsets in an Ethernet frame.
const TYPE: u32 = 12;
const IP: u32 = 14;
const IPV4_PROTOCOL: u32 = IP + 9;
const IPV4_END: u32 = IP + 20;
const IPV6_NEXT_HEADER: u32 = IP + 6;
const IPV6_END: u32 = IP + 40;

/// Makes a program that accepts packets to or from the port, once each: a
/// packet that leaves the loopback enters it again. It requires that packets
/// aren't fragmented and that IP headers have no options.
pub fn program(transport: Transport, port: u16) -> Vec<SockFilter> {
    let port = port.into();
    let protocol = match transport {
        Transport::Tcp => libc::IPPROTO_TCP.cast_unsigned(),
        Transport::Udp => libc::IPPROTO_UDP.cast_unsigned(),
    };
    let of_version = |next_header, end| {
        Program::default()
            .load(BYTE, next_header)
            .leave_unless(protocol)
            .load(HALF, end)
            .take_if(port)
            .load(HALF, end + 2)
            .take_if(port)
            .leave()
    };
    Program::default()
        .load(WORD, DIRECTION)
        .leave_if(OUTGOING)
        .load(HALF, TYPE)
        .branch_if(TYPE_IPV4, of_version(IPV4_PROTOCOL, IPV4_END))
        .branch_if(TYPE_IPV6, of_version(IPV6_NEXT_HEADER, IPV6_END))
        .leave()
        .0
}

/// Instructions in order. A load beyond the end of a packet rejects it.
#[derive(Default)]
struct Program(Vec<SockFilter>);

impl Program {
    fn load(self, what: u32, from: u32) -> Self {
        self.with(what, [0, 0], from)
    }

    fn leave(self) -> Self {
        self.with(BPF_RET, [0, 0], 0)
    }

    /// Accepts the whole packet.
    fn take(self) -> Self {
        self.with(BPF_RET, [0, 0], u32::MAX)
    }

    fn take_if(self, value: u32) -> Self {
        self.with(BPF_JMP | BPF_JEQ, [0, 1], value).take()
    }

    fn leave_if(self, value: u32) -> Self {
        self.with(BPF_JMP | BPF_JEQ, [0, 1], value).leave()
    }

    fn leave_unless(self, value: u32) -> Self {
        self.with(BPF_JMP | BPF_JEQ, [1, 0], value).leave()
    }

    fn branch_if(self, value: u32, branch: Self) -> Self {
        let length = u8::try_from(branch.0.len()).expect("a short branch");
        let mut all = self.with(BPF_JMP | BPF_JEQ, [0, length], value);
        all.0.extend(branch.0);
        all
    }

    /// Adds an instruction. A jump has the numbers of instructions to skip if
    /// its condition is true, and if it is false.
    fn with(mut self, code: u32, [yes, no]: [u8; 2], operand: u32) -> Self {
        let code = u16::try_from(code).expect("codes have 16 bits");
        self.0.push(SockFilter::new(code, yes, no, operand));
        self
    }
}
