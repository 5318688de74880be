//! Scaling connections.

mod child_end_by_pid;
mod connection_memory;
mod connections_per_port;
mod fork_copies_descriptors;
mod fork_memory_lazily;
mod four_tuple;
mod hundred_million;
mod idle;
mod limits;
mod load_balancer;
mod loops_share;
mod saves_memory;
mod saves_more;
mod saves_time;
mod ten_thousand_processes;
mod ten_thousand_threads;
mod thread_creation_cheaper;
mod threads_share_descriptors;
mod what_ends_first;

use super::Topic;
use crate::claim::Claim;

pub const TOPIC: Topic = Topic {
    title: "Scaling connections",
    claims: &[
        &four_tuple::CLAIM,
        &connections_per_port::CLAIM,
        &connection_memory::CLAIM,
        &what_ends_first::CLAIM,
        &fork_copies_descriptors::CLAIM,
        &fork_memory_lazily::CLAIM,
        &child_end_by_pid::CLAIM,
        &threads_share_descriptors::CLAIM,
        &thread_creation_cheaper::CLAIM,
        &ten_thousand_threads::CLAIM,
        &ten_thousand_processes::CLAIM,
        &saves_time::CLAIM,
        &saves_more::CLAIM,
        &saves_memory::CLAIM,
        &hundred_million::CLAIM,
        &loops_share::CLAIM,
        &load_balancer::CLAIM,
    ],
    picture: None,
};

/// The claims whose experiments start models.
pub const SERVED: [&Claim; 6] = [
    &saves_time::CLAIM,
    &saves_more::CLAIM,
    &saves_memory::CLAIM,
    &hundred_million::CLAIM,
    &loops_share::CLAIM,
    &load_balancer::CLAIM,
];
