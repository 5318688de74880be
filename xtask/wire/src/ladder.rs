//! Draws the conversation as a ladder diagram: the client on the left, the
//! server on the right, time running downwards, and packets as arrows.

use std::time::Duration;

use console::{Alignment, measure_text_width, pad_str, style};
use lab::screen;

use super::call::Call;
use super::client::quoted;
use super::moments::{Moment, MomentKind};
use super::notes::annotate;
use super::packet::{Packet, Side};

/// The usual and the least width of a ladder.
const USUAL: usize = 80;
const LEAST: usize = 60;

/// The width of the column of times, in milliseconds.
const TIMES: usize = 9;

/// The pause from which an empty line is shown.
const GAP: Duration = Duration::from_millis(5);

/// The most bytes of a payload that are shown.
const SHOWN: usize = 24;

/// Whether notes explain the packets and calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    With,
    Without,
}

/// Draws the ladder for a terminal of this width, or for 80 columns.
pub fn draw(moments: &[Moment], width: Option<usize>, notes: Notes) -> String {
    let mut ladder = Ladder::new(moments, width);
    ladder.header();
    for (moment, note) in moments.iter().zip(annotate(moments)) {
        let note = note.filter(|_| notes == Notes::With);
        ladder.moment(moment, note.as_deref().unwrap_or_default());
    }
    ladder.text
}

struct Ladder {
    text: String,
    /// Columns between the two vertical lines.
    between: usize,
    /// The client's first call, from which times count.
    start: Duration,
    last: Duration,
    /// The initial sequence numbers of the client and of the server.
    first: [u32; 2],
}

impl Ladder {
    fn new(moments: &[Moment], width: Option<usize>) -> Self {
        let width = width.unwrap_or(USUAL).clamp(LEAST, USUAL);
        let first = |from| {
            let first = moments.iter().find_map(|moment| match &moment.what {
                MomentKind::Packet(packet) if packet.from == from => {
                    packet.tcp.as_ref().map(|tcp| tcp.sequence_number)
                }
                _ => None,
            });
            first.unwrap_or(0)
        };
        let is_clients = |moment: &&Moment| match &moment.what {
            MomentKind::Packet(packet) => packet.from == Side::Client,
            MomentKind::Begins(call) | MomentKind::Passes(call) => {
                call.side == Side::Client
            }
            MomentKind::Returns(_) => false,
        };
        let start = moments.iter().find(is_clients).map(|moment| moment.at);
        let start = start.unwrap_or_default();
        Self {
            text: String::new(),
            between: width - TIMES - 3,
            start,
            last: moments.first().map_or(start, |moment| moment.at),
            first: [first(Side::Client), first(Side::Server)],
        }
    }

    fn header(&mut self) {
        let between = self.between - "client".len() - "server".len() + 2;
        self.text += &format!("{:>TIMES$} client", "ms");
        self.text += &format!("{:between$}server\n", "");
    }

    fn moment(&mut self, moment: &Moment, note: &str) {
        if moment.at.saturating_sub(self.last) >= GAP {
            self.line("", ["│", "│"], "");
        }
        self.last = moment.at;
        let time = self.time(moment.at);
        match &moment.what {
            MomentKind::Packet(packet) => self.packet(&time, packet, note),
            MomentKind::Begins(call) => {
                self.call(&time, call, &format!("{} …", call.text), note);
            }
            MomentKind::Returns(call) => {
                let text = self.outcome(&format!("… {}", call.name), call);
                self.call(&time, call, &text, note);
            }
            MomentKind::Passes(call) => {
                let text = self.outcome(&call.text, call);
                self.call(&time, call, &text, note);
            }
        }
    }

    /// Adds the result of a call. If there is too little room, the arguments
    /// are truncated before the result.
    fn outcome(&self, text: &str, call: &Call) -> String {
        if call.result.is_empty() {
            return text.to_owned();
        }
        let room = self.between - 2;
        let result = format!(" = {}", shorten(&call.result, room - 24));
        let text = shorten(text, room - measure_text_width(&result));
        format!("{text}{result}")
    }

    fn time(&self, at: Duration) -> String {
        let milliseconds = |span: Duration| span.as_secs_f64() * 1e3;
        match at.checked_sub(self.start) {
            Some(after) => format!("{:.3}", milliseconds(after)),
            None => format!("-{:.3}", milliseconds(self.start - at)),
        }
    }

    fn packet(&mut self, time: &str, packet: &Packet, note: &str) {
        let label = self.label(packet);
        let label = shorten(&label, self.between - 6);
        let shaft = self.between - measure_text_width(&label) - 3;
        let (before, after) = (shaft / 2, shaft - shaft / 2);
        let (before, after) = ("─".repeat(before), "─".repeat(after));
        let arrow = format!("{before} {} {after}", style(label).bold());
        let (edges, arrow) = match packet.from {
            Side::Client => (["├", "│"], format!("{arrow}▶")),
            Side::Server => (["│", "┤"], format!("◀{arrow}")),
        };
        self.noted(time, edges, &arrow, note);
    }

    fn call(&mut self, time: &str, call: &Call, text: &str, note: &str) {
        let text = shorten(text, self.between - 2);
        let (text, alignment) = match call.side {
            Side::Client => (style(text).cyan(), Alignment::Left),
            Side::Server => (style(text).green(), Alignment::Right),
        };
        let text = format!(" {text} ");
        let text = pad_str(&text, self.between, alignment, None).into_owned();
        self.noted(time, ["│", "│"], &text, note);
    }

    /// Draws a line with its note below.
    fn noted(
        &mut self,
        time: &str,
        edges: [&str; 2],
        inside: &str,
        note: &str,
    ) {
        self.line(time, edges, inside);
        for note in screen::wrap(note, self.between - 6) {
            if !note.is_empty() {
                let note = format!("   {}", style(note).dim());
                self.line("", ["│", "│"], &note);
            }
        }
    }

    fn line(&mut self, time: &str, [left, right]: [&str; 2], inside: &str) {
        let inside = pad_str(inside, self.between, Alignment::Left, None);
        self.text += &format!("{time:>TIMES$} {left}{inside}{right}\n");
    }

    /// Formats `PSH ACK, seq 1, ack 1, 6 bytes "PING\r\n"`. Sequence numbers
    /// are relative to each side's initial one, as in tcpdump.
    fn label(&self, packet: &Packet) -> String {
        let mut label = match &packet.tcp {
            None => "datagram".to_owned(),
            Some(tcp) => {
                let [own, other] = [packet.from, packet.from.other()]
                    .map(|side| self.first[side as usize]);
                let own = tcp.sequence_number.wrapping_sub(own);
                let mut label = format!("{}, seq {own}", flags(tcp));
                if tcp.ack {
                    let number = tcp.acknowledgment_number;
                    let other = number.wrapping_sub(other);
                    label += &format!(", ack {other}");
                }
                label
            }
        };
        let payload = &packet.payload;
        if !payload.is_empty() {
            let shown = quoted(&payload[..payload.len().min(SHOWN)]);
            let more = if payload.len() > SHOWN { " ..." } else { "" };
            label += &format!(", {} bytes {shown}{more}", payload.len());
        }
        label
    }
}

fn flags(tcp: &etherparse::TcpHeader) -> String {
    let all = [
        (tcp.syn, "SYN"),
        (tcp.fin, "FIN"),
        (tcp.rst, "RST"),
        (tcp.psh, "PSH"),
        (tcp.urg, "URG"),
        (tcp.ack, "ACK"),
    ];
    let set = all.iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

fn shorten(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}
