//! The results of tracing all models.

use super::count::Tally;
use super::figure::Column;

/// At how many connections calls are counted.
pub const CONNECTIONS: [usize; 2] = [1, 50];

/// The results for all of them.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub columns: Vec<Column>,
    pub costs: Vec<Cost>,
    /// Titles and timelines, as a terminal shows them.
    pub timelines: Vec<(String, String)>,
    /// Models that can't be traced here, and why.
    pub missing: Vec<(String, String)>,
}

/// System calls a request, of one model.
#[derive(Clone, Debug)]
pub struct Cost {
    pub title: String,
    /// For each of `CONNECTIONS`; None where it does not serve so many.
    pub tallies: [Option<Tally>; 2],
}
