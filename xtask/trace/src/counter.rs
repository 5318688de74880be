//! Counts of system calls, made while a server runs.

use std::collections::BTreeMap;

/// Calls by name.
pub type Calls = BTreeMap<&'static str, Count>;

/// How often one call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub made: u64,
    /// How many of these returned EAGAIN.
    pub empty: u64,
}
