//! Carries out one conversation, from the server's start to the state that the
//! kernel keeps after it.

use std::path::Path;
use std::thread;

use anyhow::{Result, ensure};
use lab::model::Transport;
use trace::host::{Host, Tracing};
use trace::steps::steps;

use super::afterwards::{self, Half};
use super::call::{Call, now};
use super::capture::{Capture, Frame};
use super::client::{self, End};
use super::packet::{Ends, Packet};
use super::served::{self, Offset, Window};

/// A conversation to carry out.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub transport: Transport,
    pub ipv6: bool,
    /// How a connection ends.
    pub end: End,
}

/// Everything recorded of a conversation.
#[derive(Debug)]
pub struct Scene {
    pub script: Script,
    pub ends: Ends,
    pub frames: Vec<Frame>,
    pub packets: Vec<Packet>,
    pub calls: Vec<Call>,
    /// The state of the connection that the kernel still keeps.
    pub halves: Vec<Half>,
    /// Packets that the packet socket dropped.
    pub dropped: u32,
    /// The reason why the server's calls are missing, if they are.
    pub untraced: Option<String>,
}

impl Scene {
    pub fn play(
        capture: Capture,
        program: &Path,
        arguments: &[String],
        script: Script,
    ) -> Result<Self> {
        let address = if script.ipv6 { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = (script.transport, address);
        let host = Host::start(program, arguments, socket, Tracing::Optional)?;
        let server = host.address();
        capture.watch(script.transport, server.port())?;
        // Wait until the server is idle and waits for its first client.
        thread::sleep(client::PAUSE);
        let talked = match script.transport {
            Transport::Tcp => client::converse(server, script.end),
            Transport::Udp => client::exchange(server),
        };
        let (ends, mut calls) = match talked {
            Ok(talked) => talked,
            Err(error) => return Err(host.explain(error)),
        };
        let frames = capture.collect()?;
        let halves = match script.transport {
            Transport::Tcp => afterwards::look(&ends)?,
            Transport::Udp => Vec::new(),
        };
        let dropped = capture.dropped()?;
        let untraced = host.untraced.clone();
        let offset = Offset::measure();
        let window = Window {
            from: calls.first().map_or_else(now, |call| call.begun),
            to: now(),
        };
        let steps = steps(&host.stop()?);
        calls.extend(served::calls(&steps, offset, window));
        let packets: Vec<_> = frames
            .iter()
            .filter_map(|frame| Packet::parse(frame, &ends))
            .collect();
        ensure!(!packets.is_empty(), "the packet socket received no packet");
        Ok(Self {
            script,
            ends,
            frames,
            packets,
            calls,
            halves,
            dropped,
            untraced,
        })
    }
}
