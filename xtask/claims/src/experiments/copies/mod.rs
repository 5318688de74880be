//! Who copies, and on whose time.

use super::Topic;

pub const TOPIC: Topic =
    Topic { title: "Who copies, and on whose time", claims: &[] };
