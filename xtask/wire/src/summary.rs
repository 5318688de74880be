//! Sentences under the ladder that sum the conversation up.

use lab::model::Transport;

use super::afterwards::Half;
use super::packet::Side;
use super::scene::Scene;

/// Says what is left of the connection, and how far all this is to be trusted.
pub fn sentences(scene: &Scene) -> Vec<String> {
    let mut sentences = Vec::new();
    match scene.script.transport {
        Transport::Tcp => sentences.push(left(&scene.halves)),
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

/// As /proc/net/tcp has it.
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
