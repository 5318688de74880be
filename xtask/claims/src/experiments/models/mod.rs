//! The five I/O models.

use super::Topic;

pub const TOPIC: Topic = Topic { title: "The five I/O models", claims: &[] };
