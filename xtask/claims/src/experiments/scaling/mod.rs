//! Scaling connections: processes, threads, and what bounds their number.

mod child_pid;
mod fork_descriptors;
mod fork_memory;
mod four_tuple;
mod ten_thousand_threads;
mod threads_share;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "Scaling connections",
    claims: &[
        &four_tuple::CLAIM,
        &fork_descriptors::CLAIM,
        &fork_memory::CLAIM,
        &child_pid::CLAIM,
        &threads_share::CLAIM,
        &ten_thousand_threads::CLAIM,
    ],
};
