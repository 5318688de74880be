//! epoll.

mod accept_herd;
mod below_a_thousand;
mod cost_flat;
mod create_size;
mod ctl_cost;
mod dup_close;
mod edge_blocking;
mod edge_efficiency;
mod edge_new_data;
mod herd;
mod level_repeats;
mod ready_order;
mod shared_memory;
mod short_lived;
mod watch;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "epoll",
    claims: &[
        &create_size::CLAIM,
        &cost_flat::CLAIM,
        &ctl_cost::CLAIM,
        &shared_memory::CLAIM,
        &ready_order::CLAIM,
        &dup_close::CLAIM,
        &level_repeats::CLAIM,
        &edge_new_data::CLAIM,
        &edge_blocking::CLAIM,
        &edge_efficiency::CLAIM,
        &below_a_thousand::CLAIM,
        &short_lived::CLAIM,
        &accept_herd::CLAIM,
    ],
    picture: None,
};
