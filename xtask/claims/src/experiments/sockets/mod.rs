//! Sockets: streams, datagrams and connections.

mod stream_boundaries;

use super::Topic;

pub const TOPIC: Topic =
    Topic { title: "Sockets", claims: &[&stream_boundaries::CLAIM] };
