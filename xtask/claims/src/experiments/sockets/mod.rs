//! Sockets: streams, datagrams and connections.

mod accept_queue_full;
mod close_and_shutdown;
mod connect_before_accept;
mod datagram_boundaries;
mod datagram_loss;
mod datagram_truncated;
mod four_packets;
mod raw_socket;
mod stream_boundaries;
mod stream_keeps_order;
mod syn_queue_full;
mod time_wait;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "Sockets",
    claims: &[
        &stream_keeps_order::CLAIM,
        &stream_boundaries::CLAIM,
        &datagram_boundaries::CLAIM,
        &datagram_truncated::CLAIM,
        &datagram_loss::CLAIM,
        &raw_socket::CLAIM,
        &connect_before_accept::CLAIM,
        &accept_queue_full::CLAIM,
        &syn_queue_full::CLAIM,
        &close_and_shutdown::CLAIM,
        &four_packets::CLAIM,
        &time_wait::CLAIM,
    ],
    picture: None,
};
