//! select and poll.

mod poll_cost;

use super::Topic;

pub const TOPIC: Topic =
    Topic { title: "select and poll", claims: &[&poll_cost::CLAIM] };
