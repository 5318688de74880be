//! What several experiments need: connections and clocks.

pub mod clock;
pub mod net;
