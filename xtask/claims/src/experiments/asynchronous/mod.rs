//! Asynchronous I/O.

use super::Topic;

pub const TOPIC: Topic = Topic { title: "Asynchronous I/O", claims: &[] };
