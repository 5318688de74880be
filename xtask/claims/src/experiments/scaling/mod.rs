//! Scaling connections.

use super::Topic;

pub const TOPIC: Topic = Topic { title: "Scaling connections", claims: &[] };
