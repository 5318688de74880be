//! Explains packets and calls in words, judged by what was seen, not by what
//! books draw.

use std::mem;
use std::time::Duration;

use etherparse::TcpHeader;
use trace::values::length;

use super::call::{Call, CallKind};
use super::moments::{Moment, MomentKind};
use super::packet::{Packet, Side};

/// An acknowledgement that took longer was put off on purpose.
const PUT_OFF: Duration = Duration::from_millis(20);

/// The conversation before the moment that is being looked at.
#[derive(Debug, Default)]
struct Reader {
    /// When connect(2) returned.
    connected: Option<Duration>,
    /// The SYN has been answered, and the answer not been acknowledged.
    answered: bool,
    /// The client's, and the server's.
    sent: [Outgoing; 2],
    first_fin: Option<Side>,
    /// A packet with nothing but an acknowledgement has been explained.
    explained: bool,
}

/// The packets that one side has sent.
#[derive(Debug, Default)]
struct Outgoing {
    /// The sequence number behind the last one used.
    next: Option<u32>,
    /// When that was, until it is acknowledged.
    waits: Option<Duration>,
    fin: bool,
}

/// Data or a FIN that a packet is the first to acknowledge.
#[derive(Clone, Copy, Debug)]
struct Acknowledgement {
    after: Duration,
    fin: bool,
}

/// A note for each moment; None where its line says enough.
pub fn annotate(moments: &[Moment]) -> Vec<Option<String>> {
    let mut reader = Reader::default();
    let note = |moment: &Moment| match &moment.what {
        MomentKind::Packet(packet) => match &packet.tcp {
            Some(tcp) => reader.segment(packet, tcp),
            None => Some(datagram(packet.from).to_owned()),
        },
        MomentKind::Begins(_) => None,
        MomentKind::Returns(call) | MomentKind::Passes(call) => {
            reader.returned(call, moment.at)
        }
    };
    moments.iter().map(note).collect()
}

fn datagram(from: Side) -> &'static str {
    match from {
        Side::Client => {
            "The first packet is the request: no connection is made. It waits \
             in the socket's buffer until the server takes it, whole."
        }
        Side::Server => {
            "The reply. Nothing acknowledges it; if it were lost, only the \
             client's own patience would tell."
        }
    }
}

impl Reader {
    fn segment(&mut self, packet: &Packet, tcp: &TcpHeader) -> Option<String> {
        let acknowledged = self.acknowledge(packet, tcp);
        let again = self.advance(packet, tcp);
        Some(if again {
            "Sent again: no acknowledgement of it has come in time.".to_owned()
        } else if tcp.rst {
            "A reset: the connection is given up at once. Nothing answers it, \
             and neither side keeps anything of the connection."
                .to_owned()
        } else if tcp.syn && !tcp.ack {
            "connect() sends the first packet and waits.".to_owned()
        } else if tcp.syn {
            self.answered = true;
            "The server's kernel answers: that a socket listens is enough, no \
             program is asked."
                .to_owned()
        } else if mem::take(&mut self.answered) {
            "The handshake is complete. The connection waits in the \
             listener's queue; the server's program does not know of it yet."
                .to_owned()
        } else if tcp.fin {
            self.fin(packet.from, acknowledged)
        } else if !packet.payload.is_empty() {
            carries(packet.from, acknowledged)
        } else {
            self.acknowledges(packet.from, acknowledged?)?
        })
    }

    fn acknowledge(
        &mut self,
        packet: &Packet,
        tcp: &TcpHeader,
    ) -> Option<Acknowledgement> {
        let other = &mut self.sent[packet.from.other() as usize];
        let number = tcp.acknowledgment_number;
        if !tcp.ack || !is_up_to(other.next?, number) {
            return None;
        }
        let after = packet.at.saturating_sub(other.waits.take()?);
        Some(Acknowledgement { after, fin: other.fin })
    }

    /// Returns whether all that the packet carries was sent before.
    fn advance(&mut self, packet: &Packet, tcp: &TcpHeader) -> bool {
        if packet.consumes() == 0 {
            return false;
        }
        let sent = &mut self.sent[packet.from as usize];
        let end = tcp.sequence_number.wrapping_add(packet.consumes());
        let again = sent.next.is_some_and(|next| is_up_to(end, next));
        sent.next = Some(end);
        sent.waits = Some(packet.at);
        sent.fin |= tcp.fin;
        again
    }

    fn fin(&mut self, from: Side, also: Option<Acknowledgement>) -> String {
        match self.first_fin {
            None => {
                self.first_fin = Some(from);
                format!(
                    "The first FIN: the {from} will send no more. It can \
                     still receive."
                )
            }
            Some(_) if also.is_some_and(|also| also.fin) => format!(
                "The {from}'s FIN acknowledges the other one as well: three \
                 packets end the connection where books draw four."
            ),
            Some(_) => format!("The {from}'s FIN ends the other direction."),
        }
    }

    /// Of a packet that carries nothing else.
    fn acknowledges(
        &mut self,
        from: Side,
        what: Acknowledgement,
    ) -> Option<String> {
        if what.fin && self.sent.iter().all(|sent| sent.fin) {
            return Some(
                "The last packet. Should it be lost, the FIN comes again, and \
                 somebody must be left to answer: that is what TIME_WAIT is \
                 for."
                    .to_owned(),
            );
        }
        if what.fin {
            return Some(format!(
                "The {from}'s kernel acknowledges the FIN{}. The connection \
                 is half closed until the {from}'s program ends its side too.",
                put_off(what.after)
            ));
        }
        let first = !mem::replace(&mut self.explained, true);
        let late = put_off(what.after);
        match (first, late.is_empty()) {
            (true, _) => Some(format!(
                "The {from}'s kernel acknowledges the bytes{late}; whether \
                 its program has taken them, this does not say."
            )),
            (false, false) => {
                Some(format!("The {from}'s kernel acknowledges{late}."))
            }
            (false, true) => None,
        }
    }

    fn returned(&mut self, call: &Call, at: Duration) -> Option<String> {
        match call.kind {
            CallKind::Connect => {
                self.connected = Some(at);
                None
            }
            CallKind::Accept => {
                let Some(connected) = self.connected else {
                    return Some(
                        "The server's program knows of the client before \
                         connect() has returned: the kernels shake hands, and \
                         then it depends on who runs first."
                            .to_owned(),
                    );
                };
                Some(format!(
                    "Only now does the server's program know of the client, \
                     {} after connect() has returned.",
                    length(at.saturating_sub(connected))
                ))
            }
            CallKind::Receive(0) => {
                let other = call.side.other();
                Some(format!(
                    "0 is the end of file: the {other}'s FIN has been reached."
                ))
            }
            _ => None,
        }
    }
}

fn carries(from: Side, also: Option<Acknowledgement>) -> String {
    match (from, also) {
        (Side::Client, None) => "The bytes wait in the server's receive \
                                 buffer until a call takes them."
            .to_owned(),
        (Side::Server, None) => "The reply.".to_owned(),
        (_, Some(what)) => {
            let what = match from {
                Side::Client => ("Another request", "reply", what.after),
                Side::Server => ("The reply", "request", what.after),
            };
            format!(
                "{} takes the acknowledgement of the {} along (piggybacked).",
                what.0, what.1
            )
        }
    }
}

/// Says that the kernel has waited, where it has.
fn put_off(after: Duration) -> String {
    if after < PUT_OFF {
        return String::new();
    }
    format!(
        ", after {} in which nothing came that could have taken the \
         acknowledgement along",
        length(after)
    )
}

/// Whether `number` lies at `end` or before it; numbers go round.
fn is_up_to(number: u32, end: u32) -> bool {
    end.wrapping_sub(number).cast_signed() >= 0
}
