//! The sentences below the ladder, which summarize the conversation.

use lab::model::Transport;

use super::afterwards::Half;
use super::packet::Side;
use super::scene::Scene;

/// Describes the remaining state of the connection, and the accuracy of the
/// ladder.
pub fn sentences(scene: &Scene) -> Vec<String> {
    let mut sentences = Vec::new();
    match scene.script.transport {
        Transport::Tcp => sentences.push(left(&scene.halves)),
        Transport::Udp => sentences.push(format!(
            "{} packets and no connection: close() sends no packet, and the \
             kernel keeps no state.",
            scene.packets.len()
        )),
    }
    sentences.push(trust(scene));
    if scene.dropped > 0 {
        sentences.push(format!(
            "{} packets are missing, because the packet socket's receive \
             buffer was full.",
            scene.dropped
        ));
    }
    sentences
}

/// Describes the remaining state, as listed in /proc/net/tcp.
fn left(halves: &[Half]) -> String {
    let mut parts = Vec::new();
    for half in halves {
        let (state, side) = (half.state, half.side);
        let mut part = format!("{state} on the {side}'s side");
        if let Some(left) = half.left {
            part += &format!(", for another {:.1} s", left.as_secs_f64());
        }
        if half.is_waiting() {
            part += match half.side {
                Side::Client => {
                    ", so that a late packet can't reach a new connection \
                     between the same two ports"
                }
                Side::Server => {
                    ", during which a restarted server needs SO_REUSEADDR to \
                     bind this port"
                }
            };
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return "Remaining state (/proc/net/tcp): none, and no TIME_WAIT on \
                either side."
            .to_owned();
    }
    format!("Remaining state (/proc/net/tcp): {}.", parts.join("; "))
}

fn trust(scene: &Scene) -> String {
    let clocks = "Packets have the kernel's timestamps";
    match &scene.untraced {
        Some(why) => {
            format!("{clocks}. The server's calls are not shown: {why}.")
        }
        None => format!(
            "{clocks}, calls those of the client or the tracer. Tracing slows \
             the server's calls down: the order on each side is correct, but \
             a return may be recorded late."
        ),
    }
}
