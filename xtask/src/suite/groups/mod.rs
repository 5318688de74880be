//! The cases, one file a group.

mod protocol;
mod rows;
mod tcp;

use super::case::Case;

/// The groups, in the order of the matrix.
pub const NAMES: [&str; 2] = ["protocol", "tcp"];

/// All cases, group by group.
pub fn all() -> Vec<(&'static str, Vec<Case>)> {
    NAMES.into_iter().zip([protocol::cases(), tcp::cases()]).collect()
}
