//! Sentences under the ladder that sum the conversation up.

use std::time::Duration;

use lab::model::Transport;
use trace::values::length;

use super::afterwards::Half;
use super::call::{Call, CallKind};
use super::notes::name;
use super::packet::{Packet, Side};
use super::scene::Scene;

/// Says who knew of the connection when, who ended it, what is left of it, and
/// how far all this is to be trusted.
pub fn sentences(scene: &Scene) -> Vec<String> {
    let mut sentences = Vec::new();
    match scene.script.transport {
        Transport::Tcp => {
            sentences.extend(handshake(&scene.calls));
            sentences.push(end(&scene.packets));
            sentences.push(left(&scene.halves));
        }
        Transport::Udp => sentences.push(format!(
            "{} packets, and no connection: close() sends none, and the \
             kernel keeps nothing.",
            scene.packets.len()
        )),
    }
    sentences.push(trust(scene));
    if scene.dropped > 0 {
        sentences.push(format!(
            "{} packets found no room in the packet socket's buffer, and are \
             not shown.",
            scene.dropped
        ));
    }
    sentences
}

fn handshake(calls: &[Call]) -> Option<String> {
    let returned = |kind: CallKind| -> Option<Duration> {
        let mut calls = calls.iter().filter(|call| call.kind == kind);
        calls.next()?.ended
    };
    let connected = returned(CallKind::Connect)?;
    let accepted = returned(CallKind::Accept)?;
    Some(match accepted.checked_sub(connected) {
        Some(later) => format!(
            "connect() returned {} before the server had accepted: the \
             kernels shake hands, not the programs.",
            length(later)
        ),
        None => format!(
            "The server had accepted {} before connect() returned: the \
             kernels shake hands, and then it depends on who runs first.",
            length(connected - accepted)
        ),
    })
}

fn end(packets: &[Packet]) -> String {
    if let Some(reset) = packets.iter().find(|packet| packet.is_reset()) {
        return format!("The {} reset the connection.", name(reset.from));
    }
    match packets.iter().find(|packet| packet.is_fin()) {
        Some(fin) => format!("The {} sent the first FIN.", name(fin.from)),
        None => "Nobody has ended the connection yet.".to_owned(),
    }
}

/// As /proc/net/tcp has it.
fn left(halves: &[Half]) -> String {
    let mut parts = Vec::new();
    for half in halves {
        let side = name(half.side);
        let mut part = format!("{} on the {side}'s side", half.state);
        if let Some(left) = half.left {
            part += &format!(", for another {:.1} s", left.as_secs_f64());
        }
        if half.is_waiting() {
            part += match half.side {
                Side::Client => {
                    ": a late packet of it meets no other connection between \
                     these two ports"
                }
                Side::Server => {
                    ": a server that is to start again at this port meanwhile \
                     needs SO_REUSEADDR"
                }
            };
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return "Nothing is left of it: no TIME_WAIT on either side \
                (/proc/net/tcp)."
            .to_owned();
    }
    format!("What is left of it (/proc/net/tcp): {}.", parts.join("; "))
}

fn trust(scene: &Scene) -> String {
    let clocks = "Packets bear the kernel's time";
    match &scene.untraced {
        Some(why) => {
            format!("{clocks}. The server's calls are not shown: {why}.")
        }
        None => format!(
            "{clocks}, calls the time of who saw them. The server was traced, \
             which makes its calls slower: the order on each side is right, \
             but a return may be seen late."
        ),
    }
}
