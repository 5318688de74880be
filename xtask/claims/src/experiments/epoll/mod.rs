//! epoll.

use super::Topic;

pub const TOPIC: Topic = Topic { title: "epoll", claims: &[] };
