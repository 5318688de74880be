//! select and poll.

mod closed_while_watched;
mod fd_setsize;
mod poll_ceiling;
mod poll_cost;
mod poll_event_types;
mod poll_list;
mod real_time;
mod select_cost;
mod select_modifies_sets;
mod select_returns;
mod timeout_unit;
mod timeouts;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "select and poll",
    claims: &[
        &select_returns::CLAIM,
        &select_modifies_sets::CLAIM,
        &fd_setsize::CLAIM,
        &select_cost::CLAIM,
        &timeout_unit::CLAIM,
        &real_time::CLAIM,
        &poll_ceiling::CLAIM,
        &poll_event_types::CLAIM,
        &poll_cost::CLAIM,
        &poll_list::CLAIM,
        &closed_while_watched::CLAIM,
    ],
};
