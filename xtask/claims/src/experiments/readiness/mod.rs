//! select and poll.

mod bitmap;
mod closed_while_watched;
mod fd_setsize_beyond;
mod fd_setsize_kernel;
mod linear_cost;
mod number;
mod poll_cost;
mod poll_event_types;
mod poll_linked_list;
mod poll_no_ceiling;
mod select_cost;
mod select_modifies_sets;
mod select_real_time;
mod select_returns;
mod timeout_precision;
mod wait;
mod waiter;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "select and poll",
    claims: &[
        &select_returns::CLAIM,
        &select_modifies_sets::CLAIM,
        &fd_setsize_kernel::CLAIM,
        &fd_setsize_beyond::CLAIM,
        &select_cost::CLAIM,
        &linear_cost::CLAIM,
        &poll_cost::CLAIM,
        &poll_no_ceiling::CLAIM,
        &poll_event_types::CLAIM,
        &poll_linked_list::CLAIM,
        &timeout_precision::CLAIM,
        &select_real_time::CLAIM,
        &closed_while_watched::CLAIM,
    ],
    picture: None,
};
