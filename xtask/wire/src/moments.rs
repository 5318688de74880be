//! Sorts packets and calls of both sides by time.
//!
//! A program takes the times of a call, before it begins and after it has
//! returned; the kernel takes the time of a packet in between. If the clocks
//! disagree by some microseconds, the cause is still placed first.

use std::collections::HashMap;
use std::time::Duration;

use super::call::{Call, CallKind, Origin};
use super::packet::{Packet, Side};

/// An event at one moment.
#[derive(Clone, Debug)]
pub enum MomentKind {
    Packet(Packet),
    /// The beginning of a call during which something else happens.
    Begins(Call),
    Returns(Call),
    /// A call during which nothing else happens.
    Passes(Call),
}

#[derive(Clone, Debug)]
pub struct Moment {
    /// Time since the epoch.
    pub at: Duration,
    pub what: MomentKind,
}

impl Moment {
    fn begins(&self, call: &Call) -> bool {
        matches!(&self.what, MomentKind::Begins(begun) if begun.is(call))
    }
}

/// The largest difference that is attributed to the clocks and corrected.
const DISAGREEMENT: Duration = Duration::from_micros(50);

/// The least time between cause and effect.
const STEP: Duration = Duration::from_nanos(1);

/// Sorts packets and calls. The packets of a socket keep their order, and so do
/// the calls of a thread.
pub fn in_order(mut packets: Vec<Packet>, mut calls: Vec<Call>) -> Vec<Moment> {
    let mut latest = Duration::ZERO;
    for packet in &mut packets {
        packet.at = packet.at.max(latest + STEP);
        latest = packet.at;
    }
    settle(&packets, &mut calls);
    let mut moments: Vec<_> = packets
        .into_iter()
        .map(|packet| Moment {
            at: packet.at,
            what: MomentKind::Packet(packet),
        })
        .collect();
    for call in calls {
        let begins = MomentKind::Begins(call.clone());
        moments.push(Moment { at: call.begun, what: begins });
        if let Some(at) = call.ended {
            moments.push(Moment { at, what: MomentKind::Returns(call) });
        }
    }
    // The sort is stable, so a thread's calls at one moment keep their order.
    moments.sort_by_key(|moment| moment.at);
    fold(moments)
}

/// Joins a beginning with a return that follows directly.
fn fold(moments: Vec<Moment>) -> Vec<Moment> {
    let mut folded: Vec<Moment> = Vec::with_capacity(moments.len());
    for moment in moments {
        match (folded.last_mut(), &moment.what) {
            (Some(last), MomentKind::Returns(call)) if last.begins(call) => {
                last.what = MomentKind::Passes(call.clone());
            }
            _ => folded.push(moment),
        }
    }
    folded
}

/// Corrects the times of calls by up to [`DISAGREEMENT`]: a call begins before
/// the packet that it sends, and returns after the packet that it waits for.
fn settle(packets: &[Packet], calls: &mut [Call]) {
    let times = |side, is: fn(&Packet) -> bool| {
        let own = packets.iter().filter(move |packet| packet.from == side);
        own.filter(move |packet| is(packet)).map(|packet| packet.at)
    };
    let first = |side, is| times(side, is).next();
    let carries = |packet: &Packet| !packet.payload.is_empty();
    // The last packet of the handshake, from the side that sent the SYN.
    let completes = |packet: &Packet| !packet.is_syn();
    let ends = |packet: &Packet| packet.is_fin() || packet.is_reset();
    for side in [Side::Client, Side::Server] {
        let other = side.other();
        let mut sent = times(side, carries);
        let mut received = times(other, carries);
        let mut end = first(side, ends);
        for call in calls.iter_mut().filter(|call| call.side == side) {
            let (sends, awaits) = match call.kind {
                CallKind::Connect => {
                    (first(side, Packet::is_syn), first(other, Packet::is_syn))
                }
                CallKind::Accept => (None, first(other, completes)),
                CallKind::Send(_) => (sent.next(), None),
                CallKind::Receive(0) => (None, first(other, ends)),
                CallKind::Receive(_) => (None, received.next()),
                CallKind::Shutdown | CallKind::Close => (end.take(), None),
                CallKind::Other => (None, None),
            };
            if let Some(sends) = sends
                && call.begun < sends + DISAGREEMENT
            {
                call.begun = call.begun.min(sends - STEP);
            }
            if let (Some(awaits), Some(ended)) = (awaits, &mut call.ended)
                && *ended + DISAGREEMENT > awaits
            {
                *ended = (*ended).max(awaits + STEP);
            }
        }
    }
    keep_threads_in_order(calls);
}

/// Ensures that a thread's call returns before its next one begins.
fn keep_threads_in_order(calls: &mut [Call]) {
    let mut next: HashMap<Origin, Duration> = HashMap::new();
    for call in calls.iter_mut().rev() {
        if let (Some(ended), Some(next)) =
            (&mut call.ended, next.get(&call.origin))
        {
            *ended = (*ended).min(*next);
        }
        next.insert(call.origin, call.begun);
    }
}
