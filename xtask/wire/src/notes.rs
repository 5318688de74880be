//! Explains packets and calls, according to what was captured, not to the
//! textbook sequence.

use std::mem;
use std::time::Duration;

use etherparse::TcpHeader;
use trace::values::length;

use super::call::{Call, CallKind};
use super::moments::{Moment, MomentKind};
use super::packet::{Packet, Side};

/// The time from which an acknowledgement counts as delayed (delayed ACK).
const PUT_OFF: Duration = Duration::from_millis(20);

/// The state of the conversation before the current moment.
#[derive(Debug, Default)]
struct Reader {
    /// When connect(2) returned.
    connected: Option<Duration>,
    /// The SYN ACK has been sent, but not yet acknowledged.
    answered: bool,
    /// The client's packets, and the server's.
    sent: [Outgoing; 2],
    first_fin: Option<Side>,
    /// A pure acknowledgement has been explained.
    explained: bool,
}

/// The packets that one side has sent.
#[derive(Debug, Default)]
struct Outgoing {
    /// The next sequence number.
    next: Option<u32>,
    /// When the last bytes were sent, until they are acknowledged.
    waits: Option<Duration>,
    fin: bool,
}

/// The first acknowledgement of data or a FIN.
#[derive(Clone, Copy, Debug)]
struct Acknowledgement {
    after: Duration,
    fin: bool,
}

/// Returns a note for each moment; None if it needs no explanation.
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
            "The first packet is the request, because UDP has no handshake. \
             It waits in the socket's receive buffer until the server \
             receives it as a whole."
        }
        Side::Server => {
            "The reply. UDP has no acknowledgements, so only the client's own \
             timeout would reveal its loss."
        }
    }
}

impl Reader {
    fn segment(&mut self, packet: &Packet, tcp: &TcpHeader) -> Option<String> {
        let acknowledged = self.acknowledge(packet, tcp);
        let again = self.advance(packet, tcp);
        Some(if again {
            "Retransmission: no acknowledgement has arrived in time.".to_owned()
        } else if tcp.rst {
            "A reset aborts the connection at once. It is not acknowledged, \
             and neither side keeps any state of the connection."
                .to_owned()
        } else if tcp.syn && !tcp.ack {
            "connect() sends the SYN and waits.".to_owned()
        } else if tcp.syn {
            self.answered = true;
            "The server's kernel replies on behalf of the listening socket, \
             without the server's program."
                .to_owned()
        } else if mem::take(&mut self.answered) {
            "The handshake is complete. The connection waits in the accept \
             queue until the server's program accepts it."
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

    /// Returns whether the packet is a retransmission.
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
                    "The first FIN: the {from} sends no more data, but can \
                     still receive (half-close)."
                )
            }
            Some(_) if also.is_some_and(|also| also.fin) => format!(
                "The {from}'s FIN also acknowledges the first FIN, so three \
                 packets end the connection instead of the usual four."
            ),
            Some(_) => format!("The {from}'s FIN closes its direction too."),
        }
    }

    /// Explains a pure acknowledgement.
    fn acknowledges(
        &mut self,
        from: Side,
        what: Acknowledgement,
    ) -> Option<String> {
        if what.fin && self.sent.iter().all(|sent| sent.fin) {
            return Some(
                "The last packet. If it is lost, the FIN is retransmitted and \
                 must be acknowledged again; TIME_WAIT keeps the state for \
                 that."
                    .to_owned(),
            );
        }
        if what.fin {
            return Some(format!(
                "The {from}'s kernel acknowledges the FIN{}. The connection \
                 stays half-closed until the {from}'s program closes its side.",
                put_off(what.after)
            ));
        }
        let first = !mem::replace(&mut self.explained, true);
        let late = put_off(what.after);
        match (first, late.is_empty()) {
            (true, _) => Some(format!(
                "The {from}'s kernel acknowledges the bytes{late}, whether or \
                 not its program has received them."
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
                        "The server's program accepts the connection before \
                         connect() has returned: after the handshake, the \
                         scheduler decides which side runs first."
                            .to_owned(),
                    );
                };
                Some(format!(
                    "The server's program accepts the connection {} after \
                     connect() has returned.",
                    length(at.saturating_sub(connected))
                ))
            }
            CallKind::Receive(0) => {
                let other = call.side.other();
                Some(format!(
                    "0 is end of file (EOF): all data before the {other}'s \
                     FIN has been received."
                ))
            }
            _ => None,
        }
    }
}

fn carries(from: Side, also: Option<Acknowledgement>) -> String {
    match (from, also) {
        (Side::Client, None) => "The bytes wait in the server's receive \
                                 buffer until its program receives them."
            .to_owned(),
        (Side::Server, None) => "The reply.".to_owned(),
        (_, Some(what)) => {
            let what = match from {
                Side::Client => ("Another request", "reply", what.after),
                Side::Server => ("The reply", "request", what.after),
            };
            format!(
                "{} carries the acknowledgement of the {} (piggybacking).",
                what.0, what.1
            )
        }
    }
}

/// Formats the delay of an acknowledgement; empty if it wasn't delayed.
fn put_off(after: Duration) -> String {
    if after < PUT_OFF {
        return String::new();
    }
    format!(
        " after {} (delayed ACK: no data was sent that could carry it)",
        length(after)
    )
}

/// Returns whether `number` is at or before `end`. Sequence numbers wrap
/// around.
fn is_up_to(number: u32, end: u32) -> bool {
    end.wrapping_sub(number).cast_signed() >= 0
}
