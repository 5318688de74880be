//! Packets and calls of both sides in the order in which they happened.
//!
//! A call's moments are taken by a program, before it begins and after it has
//! returned; a packet's by the kernel, in between. Where a clock says
//! otherwise, by some microseconds, the cause comes first all the same.

use std::collections::HashMap;
use std::time::Duration;

use super::call::{Call, CallKind, Origin};
use super::packet::{Packet, Side};

/// An occurrence at one moment.
#[derive(Clone, Debug)]
pub enum MomentKind {
    Packet(Packet),
    /// A call during which something else happens.
    Begins(Call),
    Returns(Call),
    /// A call with nothing between its beginning and its return.
    Passes(Call),
}

#[derive(Clone, Debug)]
pub struct Moment {
    /// Since the epoch.
    pub at: Duration,
    pub what: MomentKind,
}

impl Moment {
    fn begins(&self, call: &Call) -> bool {
        matches!(&self.what, MomentKind::Begins(begun) if begun.is(call))
    }
}

/// By how much two clocks may disagree. A larger difference is none of the
/// clocks', and stays.
const DISAGREEMENT: Duration = Duration::from_micros(50);

/// The least that parts cause and effect.
const STEP: Duration = Duration::from_nanos(1);

/// Puts all in order. The packets of one packet socket are in theirs, and so
/// are the calls of one thread.
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
    // Stable: of two things at one moment, a thread's first one stays first.
    moments.sort_by_key(|moment| moment.at);
    fold(moments)
}

/// A beginning and the return right behind it become one.
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

/// Moves moments of calls by as much as clocks may disagree: a call begins
/// before the packet that it sends, and returns after the one it waits for.
fn settle(packets: &[Packet], calls: &mut [Call]) {
    let times = |side, is: fn(&Packet) -> bool| {
        let own = packets.iter().filter(move |packet| packet.from == side);
        own.filter(move |packet| is(packet)).map(|packet| packet.at)
    };
    let first = |side, is| times(side, is).next();
    let carries = |packet: &Packet| !packet.payload.is_empty();
    // The last packet of the handshake, of the side that has sent the first.
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

/// No call of a thread begins before the last one has returned.
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
